"""Kafka: one KRaft node that is broker and controller, on loopback."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path

from deploy.local import class_archive, probes
from deploy.local.errors import CommandError
from deploy.local.java import Java
from deploy.local.layout import Layout
from deploy.local.ports import HOST, Ports
from deploy.local.program import Program

_HEAP = ("-Xms256m", "-Xmx512m")
_MESSAGE_MAX_BYTES = 33554432


def properties(ports: Ports, data: Path) -> dict[str, str]:
    """server.properties. Everything that defaults to three replicas is set to one."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{ports['kafka controller']}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{ports['kafka']},CONTROLLER://{HOST}:{ports['kafka controller']}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{ports['kafka']}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        # Committed offsets of a stack that stood still for longer than Kafka's week must not expire: a sink
        # would start over.
        "offsets.retention.minutes": str(365 * 24 * 60),
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        "log.retention.ms": "-1",
        "log.segment.bytes": "134217728",
        "compression.type": "producer",
        "message.max.bytes": str(_MESSAGE_MAX_BYTES),
        "socket.request.max.bytes": str(4 * _MESSAGE_MAX_BYTES),
        "replica.fetch.max.bytes": str(_MESSAGE_MAX_BYTES),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "num.recovery.threads.per.data.dir": "2",
        "log.cleaner.dedupe.buffer.size": "16777216",
    }


LOG4J = """\
status=warn
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
logger.kafka.name=kafka.server.KafkaRaftServer
logger.kafka.level=info
"""


def program(layout: Layout, ports: Ports, java: Java) -> Program:
    config = layout.run / "kafka.properties"
    classpath = f"{layout.kafka_jars}/*"
    log4j = f"-Dlog4j2.configurationFile={layout.run / 'kafka-log4j2.properties'}"
    return Program(
        name="kafka",
        title="Kafka",
        command=(
            str(java.java),
            *_HEAP,
            *class_archive.options(layout.kafka_jars, layout),
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:+ExplicitGCInvokesConcurrent",
            "-Djava.awt.headless=true",
            log4j,
            "-cp",
            classpath,
            "kafka.Kafka",
            str(config),
        ),
        env={"JAVA_HOME": str(java.home)},
        cwd=layout.run,
        probe=partial(probes.kafka, ports["kafka"]),
        min_uptime_s=10,
        stop_within_s=30,
        prepare=partial(_prepare, layout, ports, java),
    )


def _prepare(layout: Layout, ports: Ports, java: Java) -> None:
    data = layout.data / "kafka"
    config = layout.run / "kafka.properties"
    lines = (f"{key}={value}\n" for key, value in properties(ports, data).items())
    config.write_text("".join(lines))
    (layout.run / "kafka-log4j2.properties").write_text(LOG4J)
    if not (data / "meta.properties").exists():
        _format(layout, java, config)


def _format(layout: Layout, java: Java, config: Path) -> None:
    """Give the log folder its cluster id, once. The id comes from the home, so that a repeat is harmless."""
    command = [
        str(java.java),
        "-Xmx128m",
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        f"-Dlog4j2.configurationFile={layout.run / 'kafka-log4j2.properties'}",
        "-cp",
        f"{layout.kafka_jars}/*",
        "kafka.tools.StorageTool",
        "format",
        "--ignore-formatted",
        "--cluster-id",
        cluster_id(layout),
        "--config",
        str(config),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CommandError(f"Kafka could not format its log folder: {lines[-1] if lines else 'no output'}")


def cluster_id(layout: Layout) -> str:
    """Kafka's form of a UUID: 16 bytes, URL-safe base64 without padding."""
    import base64
    import uuid

    raw = uuid.uuid5(uuid.NAMESPACE_OID, layout.home_id()).bytes
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
