"""Find Java, and keep Apache Kafka's jars in a cache that Maven fills the first time."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from airquality.ground.errors import Unavailable

KAFKA_VERSION = "4.1.2"
MINIMUM_JAVA = 17
MAVEN_TIMEOUT_SECONDS = 900.0

Say = Callable[[str], None]

_log = logging.getLogger(__name__)

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>air-quality-monitoring</groupId>
  <artifactId>embedded-kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{version}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>2.26.1</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.26.1</version>
    </dependency>
  </dependencies>
  <build>
    <plugins>
      <plugin>
        <groupId>org.apache.maven.plugins</groupId><artifactId>maven-dependency-plugin</artifactId><version>3.8.1</version>
        <configuration>
          <includeScope>runtime</includeScope>
          <outputDirectory>${{project.basedir}}/jars</outputDirectory>
        </configuration>
      </plugin>
    </plugins>
  </build>
</project>
"""


@dataclass(frozen=True)
class Installation:
    """A Java runtime and the jars it needs to be Apache Kafka."""

    java: str
    jars: Path

    def command(self, main_class: str, *arguments: str, heap_mb: int) -> list[str]:
        """Return the command line of one of Kafka's main classes, run in a data directory."""
        # The first compiler tier and the serial collector halve the CPU time of a start; one laptop needs no more.
        options = [f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError"]
        return [
            self.java,
            *options,
            "-Dlog4j2.configurationFile=log4j2.xml",
            "-cp",
            f"{self.jars}/*",
            main_class,
            *arguments,
        ]


def install(say: Say = _log.info) -> Installation:
    """Find Java and make sure the jars are in the cache, by Maven the first time.

    Raises:
        Unavailable: with the reason in one line.
    """
    return Installation(_find_java(), _cached_jars(say))


def _find_java() -> str:
    refused = []
    for java in _java_candidates():
        version = _java_version(java)
        if version is not None and version >= MINIMUM_JAVA:
            return java
        refused.append(f"{java} is Java {version}" if version else f"{java} does not run")
    raise Unavailable(f"no Java {MINIMUM_JAVA} or newer: {', '.join(refused) or 'no java on the PATH and no JAVA_HOME'}")


def _java_candidates() -> Iterator[str]:
    if home := os.environ.get("JAVA_HOME"):
        yield str(Path(home) / "bin" / "java")
    if java := shutil.which("java"):
        yield java


def _java_version(java: str) -> int | None:
    """Return the feature release of a Java runtime; None if it does not run or says nothing."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return _parse_java_version(done.stderr + done.stdout)


def _parse_java_version(text: str) -> int | None:
    """Return the feature release that ``java -version`` names.

    >>> _parse_java_version('openjdk version "17.0.15" 2025-04-15'), _parse_java_version('java version "1.8.0_392"')
    (17, 8)
    """
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


def _cache_dir() -> Path:
    return Path(os.environ.get("AIR_QUALITY_CACHE") or _user_cache()).expanduser().absolute()


def _user_cache() -> Path:
    """Return the user's cache folder, the checkout's for a user without a home."""
    try:
        return Path.home() / ".cache" / "air-quality-monitoring"
    except RuntimeError:
        return Path(__file__).resolve().parent.parent / ".cache"


def _cached_jars(say: Say) -> Path:
    """Return the directory of Kafka's jars; it exists only once it is complete."""
    jars = _cache_dir() / f"kafka-{KAFKA_VERSION}"
    if jars.is_dir():
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable(f"no Maven (mvn) on the PATH, and no Apache Kafka {KAFKA_VERSION} in {jars}")
    try:
        jars.parent.mkdir(parents=True, exist_ok=True)
        _collect(maven, jars, say)
    except OSError as error:
        raise Unavailable(f"the jar cache cannot be written ({error}); AIR_QUALITY_CACHE moves it") from error
    return jars


def _collect(maven: str, jars: Path, say: Say) -> None:
    say(f"Collecting Apache Kafka {KAFKA_VERSION} with Maven into {jars} (45 MB, only this once) ...")
    with tempfile.TemporaryDirectory(prefix="collecting-", dir=jars.parent) as work:
        (Path(work) / "pom.xml").write_text(_POM.format(version=KAFKA_VERSION))
        _run_maven(maven, work, say)
        try:
            (Path(work) / "jars").rename(jars)
        except OSError:
            if not jars.is_dir():  # else another process collected the same jars meanwhile
                raise


def _run_maven(maven: str, work: str, say: Say) -> None:
    """Copy the jars into ``jars`` under the directory ``work``, which holds the pom."""
    command = [maven, "-B", "org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies"]
    with subprocess.Popen(
        command, cwd=work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        limit = threading.Timer(MAVEN_TIMEOUT_SECONDS, process.kill)
        limit.start()
        try:
            output = list(_with_progress(process.stdout or (), say))
        except BaseException:
            process.kill()
            raise
        finally:
            limit.cancel()
    if process.returncode:
        raise Unavailable(f"Maven could not bring Apache Kafka {KAFKA_VERSION}: {_maven_reason(output, say)}")


def _with_progress(lines: Iterable[str], say: Say) -> Iterator[str]:
    downloads = 0
    for line in lines:
        if line.startswith("Downloaded"):
            downloads += 1
            if downloads % 50 == 0:
                say(f"... {downloads} files")
        yield line.strip()


def _maven_reason(output: list[str], say: Say) -> str:
    """Return the cause in Maven's output: the last links of the chain in its first error line, else what it said last."""
    errors = [line for line in output if line.startswith("[ERROR]")] or [line for line in reversed(output) if line]
    if not errors:
        return f"it said nothing within {MAVEN_TIMEOUT_SECONDS:.0f} s"
    say(f"Maven: {errors[0]}")
    chain = errors[0].removeprefix("[ERROR] ").removesuffix(" -> [Help 1]").split(": ")
    return ": ".join(chain[-2:])
