"""The house rules on imports, read from the source: nothing here is imported or run, but for one fresh interpreter."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import TypeGuard

import pytest

from airquality.network.uci_360 import UCI_360
from tests.source_tree import FOLDERS, ROOT, Module, at_import, every_module, nodes, parse, touched

#: The package's floors, lowest first; a module imports from its own floor and from those below.
FLOORS = {
    name: floor
    for floor, names in enumerate(
        [
            ["ground"],
            ["network"],
            ["records"],
            ["incoming"],
            ["data", "metrics", "truth"],
            ["model", "monitoring"],
            ["events"],
            ["reports"],
            ["serving", "stream", "check"],
            ["replay"],
            ["__main__"],
        ]
    )
    for name in names
}
DOORS = {"producer", "consumer", "api_service", "generate_reference_dataset"}
SERVICES = {"feature_buffer", "monitoring_service"}
#: Library: where it may be imported, a file or a folder of the project.
FENCES = {
    "kafka": {
        "airquality/stream/alone.py",
        "airquality/stream/batches.py",
        "airquality/stream/kafka_io.py",
        "airquality/stream/lag.py",
        "airquality/stream/refusals.py",
        "airquality/stream/repartition.py",
        "airquality/stream/topics.py",
        "airquality/stream/transactions.py",
        "benchmarks/clock.py",
        "benchmarks/loops/bare.py",
        "benchmarks/topics.py",
        "lab",
    },
    "confluent_kafka": {"benchmarks/group.py", "benchmarks/live.py", "benchmarks/topics.py", "lab"},
    "mlflow": {"airquality/model/registry.py", "training"},
    "evidently": {"airquality/reports/evidence.py", "lab/faultlab/rivals.py"},
    "river": {"lab/faultlab/rivals.py"},
    "xgboost": {"airquality/model/model.py", "benchmarks/contenders/bentoml/service.py", "training"},
    "pickle": set[str](),
    "cPickle": set[str](),
    "cloudpickle": set[str](),
    "dill": set[str](),
    "joblib": set[str](),
}
#: Where columns may be named: the declaration, and the checksums of the published file's columns. Tables of units hold all
#: that a column may have.
DECLARATIONS = {
    "airquality/network/uci_360.py",
    "airquality/data/copies.py",
    "airquality/data/files/units.py",
    "grafana/units.py",
}
#: The fault lab's published scores: which columns its swaps exchange, and which its tables show.
STUDIES = {"lab/faultlab/faults.py", "lab/faultlab/scoreboard.py"}
#: A text that is a column's name, or is made of one: short ones such as T only where they are the whole text.
COLUMN_NAMES = set(UCI_360.names)
COLUMN_WORDS = re.compile(
    "|".join(
        [
            *(re.escape(name) for name in UCI_360.names if len(name) > 3),
            *(rf"\b{column.label}\b" for column in UCI_360.columns if column.label),
            *(
                rf"\b(log_)?{column.short}_"
                for column in UCI_360.columns
                if len(column.short) > 1 and column.role != "weather"
            ),
            *(rf"\b{re.escape(column.level_feature)}\b" for column in UCI_360.columns if "_" in column.level_feature),
            *(re.escape(unit) for column in UCI_360.columns for unit in {column.unit, column.ascii_unit} if "/" in unit),
        ]
    )
)
#: The one module that opens clients of Kafka, and the classes that are such clients.
KAFKA_DOOR = "airquality/stream/kafka_io.py"
CLIENTS = ("KafkaConsumer", "KafkaProducer", "KafkaAdminClient", "KafkaNetClient", ".Consumer", ".Producer", ".AdminClient")
#: Calls that change the process for everyone in it, and so belong in a ``main`` or a lifespan.
PROCESS_WIDE = {
    "logging.basicConfig",
    "logging.config.dictConfig",
    "logging.config.fileConfig",
    "logging.disable",
    "logging.captureWarnings",
    "airquality.ground.log.configure",
    "warnings.filterwarnings",
    "warnings.simplefilter",
    "warnings.resetwarnings",
    "numpy.seterr",
    "numpy.random.seed",
    "random.seed",
    "os.environ",
    "os.environ.setdefault",
    "os.environ.update",
    "os.putenv",
    "os.chdir",
    "signal.signal",
    "prometheus_client.start_http_server",
    "mlflow.set_tracking_uri",
    "mlflow.set_registry_uri",
    "mlflow.set_experiment",
    "multiprocessing.set_start_method",
}
#: What must run with no service, no network and no heavy library.
PURE = (
    "airquality.records",
    "airquality.model.features",
    "airquality.monitoring.drift",
    "airquality.monitoring.watch",
    "airquality.ground.errors",
    "feature_buffer",
)
#: How long a module, a door and a function may be, and which share of the package's lines one room may have.
MOST_LINES, MOST_DOOR_LINES, MOST_FUNCTION_LINES, MOST_OF_THE_PACKAGE = 400, 200, 50, 0.25
#: What the functions of the package and of the doors are like: half of them, and nine in ten, are at most so long.
MEDIAN_FUNCTION_LINES, MOST_FUNCTIONS_LINES = 8, 25
HEAVY = {"kafka", "confluent_kafka", "mlflow", "evidently", "xgboost", "sklearn", "pandas", "fastapi", "requests", "uvicorn"}


BESIDE_THE_PACKAGE = {path.stem for path in ROOT.glob("*.py")} | DOORS | SERVICES | FOLDERS


# --- the rules: each names what is wrong with a module ---


def climbs_a_floor(module: Module) -> set[str]:
    """Imports of the package that point to the same floor's neighbours or to a floor above."""
    floor = FLOORS.get(module.floor)
    if floor is None:
        return set()
    targets = {target for target in module.sources() if target.startswith("airquality.")}
    return {target for target in targets if not _is_below(target.split(".")[1], module.floor, floor)}


def _is_below(name: str, own_floor: str, floor: int) -> bool:
    return name == own_floor or FLOORS.get(name, floor) < floor


def leans_on_its_users(module: Module) -> set[str]:
    """Imports of the package that point back to the doors, the services or the folders beside it."""
    return module.imported() & BESIDE_THE_PACKAGE if module.folder == "airquality" else set()


def opens_another_door(module: Module) -> set[str]:
    """Doors that a door or a service imports."""
    return module.imported() & DOORS - {module.name} if not module.folder else set()


def climbs_a_fence(module: Module) -> set[str]:
    """Fenced libraries imported outside their fence; tests may import what may be imported at all."""
    outside = {library for library, fence in FENCES.items() if not fence & {module.path, module.folder}}
    allowed = {library for library, fence in FENCES.items() if fence} if module.folder == "tests" else set()
    return module.imported() & outside - allowed


def has_no_subject(module: Module) -> set[str]:
    """Names that say nothing about what is inside."""
    return {*module.path.removesuffix(".py").split("/")} & {"util", "utils", "helper", "helpers", "common", "misc"}


def acts_at_import(module: Module) -> set[str]:
    """Process-wide settings that are changed when the module is imported."""
    bound = dict(module.imports())
    return {name for node in at_import(module.tree) for name in touched(node, bound) if name in PROCESS_WIDE}


def knows_a_column(module: Module) -> set[str]:
    """Names, units and feature names of the declared network's columns in texts outside its declaration."""
    if module.path in DECLARATIONS or module.folder in ("tests", "training") or module.path in STUDIES:
        return set()
    known = {id(node.value) for node in nodes(module.tree) if isinstance(node, ast.Expr)}  # docstrings
    known |= {id(argument) for node in nodes(module.tree) if _is_type_variable(node) for argument in node.args}
    texts = (
        node.value
        for node in nodes(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in known
    )
    return {text for text in texts if text in COLUMN_NAMES or COLUMN_WORDS.search(text)}


def _is_type_variable(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "TypeVar"


def opens_kafka(module: Module) -> set[str]:
    """Clients of Kafka opened by the product outside the one place that knows how this process proves who it is."""
    if module.path == KAFKA_DOOR or module.folder not in ("", "airquality"):
        return set()
    bound = dict(module.imports())
    called = {name for node in nodes(module.tree) for name in touched(node, bound)}
    return {name for name in called if name.split(".")[0] in ("kafka", "confluent_kafka") and name.endswith(CLIENTS)}


def is_too_long(module: Module) -> set[str]:
    """Modules of more lines than a reader keeps in mind, doors of more than options and wiring; tests may be longer."""
    most = MOST_DOOR_LINES if module.name in DOORS and not module.folder else MOST_LINES
    return {f"{module.n_lines} lines"} if module.n_lines > most and module.folder != "tests" else set()


def has_a_long_function(module: Module) -> set[str]:
    """Functions that do not fit on a screen, docstrings apart."""
    return {name for name, n_lines in module.function_lengths().items() if n_lines > MOST_FUNCTION_LINES}


RULES = (
    opens_kafka,
    climbs_a_floor,
    leans_on_its_users,
    opens_another_door,
    climbs_a_fence,
    has_no_subject,
    acts_at_import,
    knows_a_column,
    is_too_long,
    has_a_long_function,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_holds(rule: Callable[[Module], set[str]]) -> None:
    broken = {module.path: found for module in every_module() if (found := rule(module))}
    assert broken == {}, rule.__doc__


def shares(modules: list[Module]) -> dict[str, float]:
    """Return each room's share of the lines of the package."""
    lines = Counter(dict.fromkeys(FLOORS, 0))
    for module in modules:
        lines[module.floor] += module.n_lines
    return {room: n_lines / lines.total() for room, n_lines in lines.items()}


def test_no_room_is_a_quarter_of_the_package() -> None:
    package = [module for module in every_module() if module.folder == "airquality"]
    assert {room: share for room, share in shares(package).items() if share > MOST_OF_THE_PACKAGE} == {}


def test_shares_of_two_rooms_are_of_their_lines() -> None:
    small, large = parse("airquality/data/x.py", "a = 1"), parse("airquality/model/x.py", "a = 1\nb = 2\nc = 3")
    found = shares([small, large])
    assert (found["data"], found["model"]) == (0.25, 0.75)


def test_functions_are_short() -> None:
    product = [module for module in every_module() if module.folder in ("", "airquality")]
    lengths = [n_lines for module in product for n_lines in module.function_lengths().values()]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION_LINES
    assert statistics.quantiles(lengths, n=10)[-1] <= MOST_FUNCTIONS_LINES


def circle(modules: list[Module]) -> list[str]:
    """Return what is in or above a circle of imports, wherever they are but for those of types alone."""
    named = {module.path.removesuffix(".py").replace("/", "."): at_run_time(module) for module in modules}
    sources = {name: module.sources() for name, module in named.items()}
    left = {name: {n for each in sources[name] for n in (each, each.rpartition(".")[0])} & set(named) for name in named}
    while free := {name for name, needed in left.items() if not needed - {name}}:
        left = {name: needed - free for name, needed in left.items() if name not in free}
    return sorted(left)


def at_run_time(module: Module) -> Module:
    """Return the module without what is under ``if TYPE_CHECKING``."""
    kept = [
        node for node in module.tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    ]
    return Module(module.path, ast.Module(kept, []))


def test_the_package_has_no_import_circle() -> None:
    assert circle([module for module in every_module() if module.folder in ("", "airquality")]) == []


def test_circle_of_two_modules_is_found() -> None:
    first, second = parse("airquality/a.py", "import airquality.b"), parse("airquality/b.py", "from airquality import a")
    assert circle([first, second, parse("airquality/c.py", "")]) == ["airquality.a", "airquality.b"]


def test_every_kind_of_module_is_looked_at() -> None:
    paths = {module.path for module in every_module()}
    assert {"feature_buffer.py", "airquality/model/features.py", "tests/test_architecture.py", "training/train.py"} <= paths


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        (climbs_a_floor, "airquality/ground/x.py", "from airquality.records import Reading"),
        (climbs_a_floor, "airquality/model/x.py", "from airquality.monitoring import drift"),
        (climbs_a_floor, "airquality/monitoring/x.py", "import airquality.stream.snapshots"),
        (leans_on_its_users, "airquality/x.py", "import consumer"),
        (leans_on_its_users, "airquality/x.py", "def f():\n    from training.train import main"),
        (leans_on_its_users, "airquality/x.py", "import feature_buffer as fb"),
        (opens_another_door, "consumer.py", "from producer import main"),
        (opens_another_door, "monitoring_service.py", "import api_service"),
        (climbs_a_fence, "consumer.py", "from kafka.errors import KafkaError"),
        (opens_kafka, "airquality/stream/x.py", "from kafka import KafkaConsumer\nKafkaConsumer()"),
        (opens_kafka, "airquality/stream/x.py", "import kafka.admin as admin\nadmin.KafkaAdminClient()"),
        (opens_kafka, "consumer.py", "from kafka import KafkaProducer as P\ndef f():\n    return P(acks='all')"),
        (climbs_a_fence, "airquality/monitoring/drift.py", "import mlflow.xgboost"),
        (climbs_a_fence, "api_service.py", "try:\n    import xgboost as xgb\nexcept ImportError:\n    pass"),
        (climbs_a_fence, "monitoring_service.py", "import evidently"),
        (climbs_a_fence, "training/train.py", "import joblib"),
        (climbs_a_fence, "tests/test_x.py", "import pickle"),
        (has_no_subject, "airquality/utils.py", ""),
        (has_no_subject, "training/helpers/x.py", ""),
        (knows_a_column, "airquality/x.py", "UNITS = {'T': 1}"),
        (knows_a_column, "airquality/x.py", "print(f'{value:.2f} mg/m3')"),
        (knows_a_column, "airquality/x.py", "title = 'error of CO'"),
        (knows_a_column, "airquality/x.py", "BASE = 'co_base'"),
        (knows_a_column, "lab/proof/x.py", "body['PT08.S1(CO)'] = 3"),
        (knows_a_column, "grafana/panels.py", "legend = 'Predicted NO2(GT) by station'"),
        (is_too_long, "airquality/x.py", "\n" * 400 + "a = 1"),
        (is_too_long, "producer.py", "\n" * 200 + "a = 1"),
        (has_a_long_function, "lab/x.py", 'def f():\n    """Act."""\n' + "    a = 1\n" * 50),
        (acts_at_import, "consumer.py", "import logging\nlogging.basicConfig(level='INFO')"),
        (acts_at_import, "consumer.py", "from logging import basicConfig as b\nb()"),
        (acts_at_import, "consumer.py", "from airquality.ground import log\nlog.configure()"),
        (
            acts_at_import,
            "airquality/x.py",
            "import warnings as w\nif w:\n    w.filterwarnings('ignore')",
        ),
        (acts_at_import, "airquality/x.py", "import os\nos.environ['A'] = '1'"),
        (acts_at_import, "airquality/x.py", "import os\nos.environ |= {}"),
        (acts_at_import, "airquality/x.py", "import numpy as np\nclass A:\n    old = np.seterr(all='ignore')"),
    ],
)
def test_the_rule_can_be_broken(rule: Callable[[Module], set[str]], path: str, source: str) -> None:
    assert rule(parse(path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "airquality/model/x.py",
            "from airquality.data import dataset\nfrom airquality.ground.errors import AirQualityError",
        ),
        ("airquality/stream/kafka_io.py", "import kafka"),
        ("airquality/x.py", '"""The error of CO(GT)."""\nT = TypeVar("T")\nscore = "commit"\nname = "T-shirt"'),
        ("airquality/network/uci_360.py", "NAME = 'CO(GT)'"),
        ("airquality/x.py", "\n" * 399 + "a = 1"),
        ("lab/x.py", 'def f():\n    """Act."""\n' + "    a = 1\n" * 49),
        ("training/deep/x.py", "import mlflow, xgboost"),
        ("consumer.py", "import monitoring_service, feature_buffer"),
        ("lab/demo.py", "import consumer, producer"),
        ("tests/test_x.py", "import kafka, evidently, consumer"),
        ("consumer.py", "import logging\ndef main():\n    logging.basicConfig()"),
        ("consumer.py", "import logging\nif __name__ == '__main__':\n    logging.basicConfig()"),
        ("airquality/x.py", "import warnings\nwith warnings.catch_warnings():\n    warnings.simplefilter('ignore')"),
        ("airquality/x.py", "import os\nHOME = os.environ.get('HOME')\nHERE = {}\nHERE['os.environ'] = 1"),
    ],
)
def test_what_the_rules_allow(path: str, source: str) -> None:
    assert [rule.__name__ for rule in RULES if rule(parse(path, source))] == []


def test_the_pure_core_needs_no_heavy_library() -> None:
    program = f"import sys, {', '.join(PURE)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert set(PURE) <= loaded
    assert loaded & HEAVY == set()
