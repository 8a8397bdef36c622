"""Kafka's own command-line tools by their usual names, with the broker and the credentials filled in."""

from __future__ import annotations

import difflib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from pixeldetective import kafka
from pixeldetective.errors import UsageError
from pixeldetective.settings import Settings
from pixeldetective.stack import install, java
from pixeldetective.stack.addresses import endpoints


class Tool(msgspec.Struct, frozen=True):
    """One tool: its class in Kafka 4.1, and how it is told which broker to ask and with which credentials."""

    main_class: str
    config: str = "--command-config"  # the option that takes a properties file; empty: the tool asks no broker
    # Where the options stand: before the arguments, after them (they belong to a subcommand), or the broker, too, can
    # only be given in the properties file.
    broker: Literal["before", "after", "in config"] = "before"


_TOOLS = "org.apache.kafka.tools."

TOOLS = {
    "kafka-acls": Tool(_TOOLS + "AclCommand"),
    "kafka-broker-api-versions": Tool(_TOOLS + "BrokerApiVersionsCommand"),
    "kafka-client-metrics": Tool(_TOOLS + "ClientMetricsCommand"),
    "kafka-cluster": Tool(_TOOLS + "ClusterTool", config="--config", broker="after"),
    "kafka-configs": Tool("kafka.admin.ConfigCommand"),
    "kafka-console-consumer": Tool(_TOOLS + "consumer.ConsoleConsumer", config="--consumer.config"),
    "kafka-console-producer": Tool(_TOOLS + "ConsoleProducer", config="--producer.config"),
    "kafka-console-share-consumer": Tool(_TOOLS + "consumer.ConsoleShareConsumer", config="--consumer-config"),
    "kafka-consumer-groups": Tool(_TOOLS + "consumer.group.ConsumerGroupCommand"),
    "kafka-consumer-perf-test": Tool(_TOOLS + "ConsumerPerformance", config="--consumer.config"),
    "kafka-delegation-tokens": Tool(_TOOLS + "DelegationTokenCommand"),
    "kafka-delete-records": Tool(_TOOLS + "DeleteRecordsCommand"),
    "kafka-dump-log": Tool("kafka.tools.DumpLogSegments", config=""),
    "kafka-features": Tool(_TOOLS + "FeatureCommand"),
    "kafka-get-offsets": Tool(_TOOLS + "GetOffsetShell"),
    "kafka-groups": Tool(_TOOLS + "GroupsCommand"),
    "kafka-jmx": Tool(_TOOLS + "JmxTool", config=""),
    "kafka-leader-election": Tool(_TOOLS + "LeaderElectionCommand", config="--admin.config"),
    "kafka-log-dirs": Tool(_TOOLS + "LogDirsCommand"),
    "kafka-metadata-quorum": Tool(_TOOLS + "MetadataQuorumCommand"),
    "kafka-producer-perf-test": Tool(_TOOLS + "ProducerPerformance", config="--producer.config", broker="in config"),
    "kafka-reassign-partitions": Tool(_TOOLS + "reassign.ReassignPartitionsCommand"),
    "kafka-replica-verification": Tool(_TOOLS + "ReplicaVerificationTool", config=""),
    "kafka-share-groups": Tool(_TOOLS + "consumer.group.ShareGroupCommand"),
    "kafka-storage": Tool("kafka.tools.StorageTool", config=""),
    "kafka-streams-application-reset": Tool(_TOOLS + "StreamsResetter", config="--config-file"),
    "kafka-streams-groups": Tool(_TOOLS + "streams.StreamsGroupCommand"),
    "kafka-topics": Tool(_TOOLS + "TopicCommand"),
    "kafka-transactions": Tool(_TOOLS + "TransactionsCommand"),
    "kafka-verifiable-consumer": Tool(_TOOLS + "VerifiableConsumer", config="--consumer.config"),
    "kafka-verifiable-producer": Tool(_TOOLS + "VerifiableProducer", config="--producer.config"),
}

# What says already whom to ask.
_BROKER_OPTIONS = ("--bootstrap-server", "--bootstrap-servers", "--bootstrap-controller", "--broker-list")


def run(settings: Settings, tool: str, arguments: Sequence[str]) -> int:
    """Run one of Kafka's tools on this terminal and return its exit code; a name may end in `.sh`.

    Kafka is installed first if it is not there. Raises UsageError for a tool that does not exist, PixdError if there is
    no broker to ask.
    """
    found = find(tool)
    software = install.kafka(settings)
    with tempfile.TemporaryDirectory(prefix="pixd-") as folder:
        config = Path(folder) / "client.properties"
        bootstrap = endpoints(settings).kafka_bootstrap if found.config and not _names_broker(arguments) else ""
        if bootstrap:
            kafka.check(settings, bootstrap)
        values = client_properties(settings)
        if bootstrap and found.broker == "in config":
            values = {"bootstrap.servers": bootstrap, **values}
        config.touch(mode=0o600)
        config.write_bytes(java.properties(values))
        command = java.command(
            software,
            found.main_class,
            complete(found, arguments, bootstrap=bootstrap, config=str(config) if values else ""),
            options=["-Xmx256m", "-XX:TieredStopAtLevel=1"],
        )
        process = subprocess.Popen(command, env=java.environment(software, os.environ))
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # the terminal sent it to the tool as well, which ends in its own way


def find(name: str) -> Tool:
    """The tool of this name. Raises UsageError with the names there are."""
    plain = name.removesuffix(".sh")
    for candidate in (plain, f"kafka-{plain}"):
        if candidate in TOOLS:
            return TOOLS[candidate]
    close = difflib.get_close_matches(plain, TOOLS, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    raise UsageError(f"Kafka has no tool “{name}”. {hint}There are: {', '.join(TOOLS)}.")


def complete(tool: Tool, arguments: Sequence[str], *, bootstrap: str, config: str) -> list[str]:
    """The arguments, with broker and properties file added where the tool takes them and the person gave none."""
    extra: list[str] = []
    if bootstrap and tool.broker != "in config":
        extra += ["--bootstrap-server", bootstrap]
    if config and tool.config and not _has(arguments, (tool.config,)):
        extra += [tool.config, config]
    return [*arguments, *extra] if tool.broker == "after" else [*extra, *arguments]


def client_properties(settings: Settings) -> dict[str, str | int]:
    """The security settings as a Java client wants them; nothing for a broker without."""
    if settings.kafka_security_protocol == "PLAINTEXT":
        return {}
    values: dict[str, str | int] = {"security.protocol": settings.kafka_security_protocol}
    if settings.kafka_security_protocol.startswith("SASL"):
        scram = settings.kafka_sasl_mechanism.startswith("SCRAM")
        module = "scram.ScramLoginModule" if scram else "plain.PlainLoginModule"
        user, password = _quoted(settings.kafka_sasl_username), _quoted(settings.kafka_sasl_password)
        values["sasl.mechanism"] = settings.kafka_sasl_mechanism
        values["sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.{module} required username={user} password={password};"
        )
    if settings.kafka_security_protocol.endswith("SSL") and settings.kafka_ssl_ca_location:
        values["ssl.truststore.type"] = "PEM"
        values["ssl.truststore.location"] = settings.kafka_ssl_ca_location
    return values


def _names_broker(arguments: Sequence[str]) -> bool:
    return _has(arguments, _BROKER_OPTIONS) or any("bootstrap.servers=" in argument for argument in arguments)


def _has(arguments: Sequence[str], options: Sequence[str]) -> bool:
    return any(argument.split("=", 1)[0] in options for argument in arguments)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
