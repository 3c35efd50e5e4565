"""A real Apache Kafka that trusts nobody: TLS, passwords and access rules, as other people's brokers have them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

from lab.certificates import Authority
from lab.kafka_installation import Installation
from lab.kafka_node import RealBroker
from lab.ports import free_port

#: The user that may do everything this system needs, and one that may do nothing until a test allows it something.
USER, STRANGER = "air-quality", "stranger"
HOST = "localhost"
#: What a listener speaks, by its name. The node's own listener, without security, is its administrator's.
LISTENERS = {"SASL": "SASL_SSL", "MTLS": "SSL", "EXPIRED": "SASL_SSL", "CLEAR": "SASL_PLAINTEXT"}
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class SecuredBroker(RealBroker):
    """A node that clients reach by TLS and a password, and whose users may do only what an access rule allows.

    ``bootstrap_servers`` is the SASL_SSL listener, ``administration`` the one without security, whose clients may do all.
    The certificate is for ``localhost`` alone: by its address the broker has the wrong name.
    """

    def __init__(self, installation: Installation, data_dir: Path | None = None, port: int | None = None) -> None:
        """Prepare a broker that is not running yet; ``port`` is that of its SASL_SSL listener."""
        super().__init__(installation, data_dir)
        self.administration = self.bootstrap_servers
        self._ports = {name: free_port() for name in LISTENERS} | ({"SASL": port} if port else {})
        self.servers = {name: f"{HOST}:{number}" for name, number in self._ports.items()}
        self.more_ports = tuple(self._ports.values())
        self.secrets = self.data_dir / "secrets"
        self.authority = Authority(self.secrets)
        self.passwords = {user: self._password(user) for user in (USER, STRANGER)}
        self.bootstrap_servers = self.servers["SASL"]
        self.description = f"{self.description}; SASL_SSL at {self.bootstrap_servers}, user {USER}"
        self.properties = self._security()
        self.format_arguments = tuple(
            f"--add-scram={mechanism}=[name={user},password={password}]"
            for user, password in self.passwords.items()
            for mechanism in MECHANISMS[1:]
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """What programs need to use this broker as its user."""
        return self.environment_of(USER)

    def environment_of(self, user: str) -> dict[str, str]:
        """Return what programs need to use this broker as that user."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD_FILE": str(self.secrets / f"{user}.password"),
            "KAFKA_SSL_CAFILE": str(self.authority.cafile),
        }

    def start(self) -> None:
        """Start it, and give its user what this system needs, under any name."""
        super().start()
        for kind, operations in _NEEDED.items():
            self.allow(USER, kind, "*", *operations)

    def allow(self, user: str, kind: ResourceType, name: str, *operations: ACLOperation, prefixed: bool = False) -> None:
        """Let a user do something to a resource; ``*`` is any resource of its kind."""
        pattern = ACLResourcePatternType.PREFIXED if prefixed else ACLResourcePatternType.LITERAL
        with closing(KafkaAdminClient(bootstrap_servers=self.administration)) as admin:
            admin.create_acls([_rule(user, kind, name, pattern, operation) for operation in operations])

    def deny(self, user: str, kind: ResourceType, name: str, *operations: ACLOperation) -> None:
        """Take a right away from a user that has it."""
        with closing(KafkaAdminClient(bootstrap_servers=self.administration)) as admin:
            literal, deny = ACLResourcePatternType.LITERAL, ACLPermissionType.DENY
            admin.create_acls([_rule(user, kind, name, literal, operation, deny) for operation in operations])

    def _password(self, user: str) -> str:
        """Return the user's password; in a data directory that is kept it stays what it was."""
        file = self.secrets / f"{user}.password"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(12))
        return file.read_text()

    def _listeners(self) -> dict[str, str]:
        own = super()._listeners()
        more = {
            "listeners": [f"{name}://127.0.0.1:{port}" for name, port in self._ports.items()],
            "advertised.listeners": [f"{name}://{where}" for name, where in self.servers.items()],
            "listener.security.protocol.map": [f"{name}:{protocol}" for name, protocol in LISTENERS.items()],
        }
        return own | {name: ",".join([own[name], *values]) for name, values in more.items()}

    def _security(self) -> dict[str, object]:
        valid = self._keystore("broker", timedelta(days=30))
        expired = self._keystore("expired", timedelta(days=-1))
        made: dict[str, object] = {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",  # the controller's listener and the administrator's
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": valid,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self._inside(self.authority.cafile),
            "listener.name.mtls.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
            "listener.name.expired.ssl.keystore.type": "PEM",
            "listener.name.expired.ssl.keystore.location": expired,
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        }
        plain = " ".join(f'user_{user}="{password}"' for user, password in self.passwords.items())
        modules = "org.apache.kafka.common.security"
        for name in (name.lower() for name, protocol in LISTENERS.items() if protocol.startswith("SASL")):
            made[f"listener.name.{name}.plain.sasl.jaas.config"] = f"{modules}.plain.PlainLoginModule required {plain};"
            for mechanism in MECHANISMS[1:]:
                module = f"{modules}.scram.ScramLoginModule required;"
                made[f"listener.name.{name}.{mechanism.lower()}.sasl.jaas.config"] = module
        return made

    def _keystore(self, name: str, valid: timedelta) -> str:
        certificate, key = self.authority.issue(name, HOST, valid)
        store = self.secrets / f"{name}-keystore.pem"
        store.touch(mode=0o600)
        store.write_bytes(key.read_bytes() + certificate.read_bytes())
        return self._inside(store)

    def _inside(self, path: Path) -> str:
        return str(path.relative_to(self.data_dir))


_NEEDED = {
    ResourceType.TOPIC: (
        ACLOperation.READ,
        ACLOperation.WRITE,
        ACLOperation.CREATE,
        ACLOperation.ALTER,
        ACLOperation.DESCRIBE_CONFIGS,
    ),
    ResourceType.GROUP: (ACLOperation.READ,),
    ResourceType.TRANSACTIONAL_ID: (ACLOperation.WRITE,),
}


def _rule(
    user: str,
    kind: ResourceType,
    name: str,
    pattern: ACLResourcePatternType,
    operation: ACLOperation,
    permission: ACLPermissionType = ACLPermissionType.ALLOW,
) -> ACL:
    return ACL(f"User:{user}", "*", operation, permission, ResourcePattern(kind, name, pattern))
