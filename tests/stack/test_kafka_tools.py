from __future__ import annotations

import zipfile
from pathlib import Path

import msgspec
import pytest

from pixeldetective.errors import PixdError, UsageError
from pixeldetective.settings import Settings
from pixeldetective.stack import kafka_tools
from pixeldetective.stack.java import properties
from pixeldetective.stack.kafka_tools import TOOLS, client_properties, complete, find, run


def test_every_tool_is_in_the_jars(software: Path) -> None:
    classes = {
        name.removesuffix(".class").replace("/", ".")
        for jar in software.glob("kafka-*/libs/kafka*.jar")
        for name in zipfile.ZipFile(jar).namelist()
    }
    assert {tool.main_class for tool in TOOLS.values()} <= classes


def test_names_as_people_type_them() -> None:
    assert find("kafka-topics.sh") is find("kafka-topics") is find("topics")


def test_an_unknown_tool_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Did you mean kafka-topics\?"):
        find("kafka-topic")


@pytest.mark.parametrize(
    ("tool", "arguments", "expected"),
    [
        ("kafka-topics", ["--list"], ["--bootstrap-server", "b:1", "--command-config", "f", "--list"]),
        ("kafka-cluster", ["cluster-id"], ["cluster-id", "--bootstrap-server", "b:1", "--config", "f"]),
        ("kafka-console-consumer", ["--consumer.config=x"], ["--bootstrap-server", "b:1", "--consumer.config=x"]),
        ("kafka-producer-perf-test", ["--topic", "t"], ["--producer.config", "f", "--topic", "t"]),
        ("kafka-dump-log", ["--files", "x"], ["--files", "x"]),
    ],
)
def test_what_is_missing_is_added(tool: str, arguments: list[str], expected: list[str]) -> None:
    bootstrap = "b:1" if TOOLS[tool].config else ""
    assert complete(TOOLS[tool], arguments, bootstrap=bootstrap, config="f") == expected


def test_credentials_reach_java_as_they_are(local_stack: Settings) -> None:
    secured = msgspec.structs.replace(
        local_stack,
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_username="me",
        kafka_sasl_password='a"b\\c',
        kafka_ssl_ca_location="/ca.pem",
    )
    values = client_properties(secured)
    assert values["sasl.jaas.config"] == (
        'org.apache.kafka.common.security.scram.ScramLoginModule required username="me" password="a\\"b\\\\c";'
    )
    assert values["ssl.truststore.location"] == "/ca.pem"
    assert client_properties(local_stack) == {}


def test_properties_keep_any_text() -> None:
    assert properties({"a": " ü\\\U0001f600"}) == b"a=\\ \\u00fc\\\\\\ud83d\\ude00\n"


def test_tools_talk_to_the_local_broker(local_stack: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    made = run(local_stack, "kafka-topics", ["--create", "--topic", "by-tool", "--partitions", "2"])
    assert made == 0, capfd.readouterr()
    assert run(local_stack, "kafka-get-offsets.sh", ["--topic", "by-tool"]) == 0
    assert "by-tool:1:0" in capfd.readouterr().out
    # One of each kind: options before, options after a subcommand, the broker in the properties file.
    assert run(local_stack, "kafka-metadata-quorum", ["describe", "--status"]) == 0
    assert run(local_stack, "kafka-cluster", ["cluster-id"]) == 0
    perf = ["--topic", "by-tool", "--num-records", "10", "--record-size", "10", "--throughput", "-1"]
    assert run(local_stack, "kafka-producer-perf-test", perf) == 0
    read = ["--topic", "by-tool", "--from-beginning", "--max-messages", "10", "--timeout-ms", "20000"]
    assert run(local_stack, "kafka-console-consumer", read) == 0
    assert run(local_stack, "kafka-topics", ["--describe", "--topic", "nowhere"]) == 1


def test_without_a_broker_the_error_says_how(home: Settings) -> None:
    with pytest.raises(PixdError, match="pixd up"):
        kafka_tools.run(home, "kafka-topics", ["--list"])
