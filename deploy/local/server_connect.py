"""Kafka Connect: one distributed worker on loopback, with Debezium and the Avro converter as plugins.

Which connectors it runs is the business of `deploy.connect`.
"""

from __future__ import annotations

from functools import partial

from deploy.connect import DATABASE_ROLE
from deploy.local import class_archive, probes, server_postgres
from deploy.local.credentials import secret
from deploy.local.java import Java
from deploy.local.layout import Layout
from deploy.local.ports import HOST, Ports
from deploy.local.program import Program

_HEAP = ("-Xms64m", "-Xmx256m")


def properties(kafka: str, listener: str, plugins: str) -> dict[str, str]:
    """The worker's properties. Its three topics are compacted, and it makes them itself.

    `kafka`: bootstrap list; `listener`: URL of its REST API; `plugins`: folder of plugin folders.
    """
    return {
        "bootstrap.servers": kafka,
        "group.id": "tillstream-connect",
        "listeners": listener,
        "plugin.path": plugins,
        # Every plugin declares itself (KIP-898), so no jar is searched for them.
        "plugin.discovery": "service_load",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "config.storage.topic": "connect.configs",
        "config.storage.replication.factor": "1",
        "offset.storage.topic": "connect.offsets",
        "offset.storage.replication.factor": "1",
        "offset.storage.partitions": "1",
        "status.storage.topic": "connect.status",
        "status.storage.replication.factor": "1",
        "status.storage.partitions": "1",
        # After a crash at most so much is captured twice.
        "offset.flush.interval.ms": "1000",
        # A killed worker's tasks: by default they wait five minutes for it to come back (KIP-415).
        "scheduled.rebalance.max.delay.ms": "0",
        "session.timeout.ms": "6000",
        "heartbeat.interval.ms": "2000",
        "rebalance.timeout.ms": "20000",
        # Of the readers of its own topics: they are answered at once when there is something, and need not
        # ask twice a second whether there is.
        "fetch.max.wait.ms": "5000",
        "task.shutdown.graceful.timeout.ms": "5000",
        # The catalogue's topics are made beforehand; one that is not in it is a mistake.
        "topic.creation.enable": "false",
        "producer.linger.ms": "0",
        # Addresses and passwords stay in the process's environment: the connectors' files, the configuration
        # topic and the REST API only hold their names.
        "config.providers": "env",
        "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
        "config.providers.env.param.allowlist.pattern": "^TILLSTREAM_CDC_[A-Z]+$",
    }


LOG4J = """\
status=warn
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
logger.debezium.name=io.debezium
logger.debezium.level=info
# Every value of every configuration, once for each task that starts.
logger.config.name=org.apache.kafka.common.config
logger.config.level=error
"""


def environment(layout: Layout, ports: Ports) -> dict[str, str]:
    """What the connectors' files refer to as `${env:TILLSTREAM_CDC_...}`."""
    return {
        "TILLSTREAM_CDC_HOST": HOST,
        "TILLSTREAM_CDC_PORT": str(ports["postgres"]),
        "TILLSTREAM_CDC_DATABASE": server_postgres.DATABASE,
        "TILLSTREAM_CDC_USER": DATABASE_ROLE,
        "TILLSTREAM_CDC_PASSWORD": password(layout),
        "TILLSTREAM_CDC_REGISTRY": f"{ports.url('registry')}/apis/registry/v2",
    }


def password(layout: Layout) -> str:
    return secret(layout, "cdc")


def program(layout: Layout, ports: Ports, java: Java) -> Program:
    config = layout.run / "connect.properties"
    return Program(
        name="connect",
        title="Kafka Connect",
        command=(
            str(java.java),
            *_HEAP,
            *class_archive.options(layout.kafka_jars, layout, "connect"),
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={layout.run / 'connect-log4j2.properties'}",
            "-cp",
            f"{layout.kafka_jars}/*",
            "org.apache.kafka.connect.cli.ConnectDistributed",
            str(config),
        ),
        env={"JAVA_HOME": str(java.home), **environment(layout, ports)},
        cwd=layout.run,
        probe=partial(probes.http_ok, f"{ports.url('connect')}/connectors"),
        min_uptime_s=10,
        stop_within_s=40,
        prepare=partial(_prepare, layout, ports),
    )


def _prepare(layout: Layout, ports: Ports) -> None:
    worker = properties(f"{HOST}:{ports['kafka']}", ports.url("connect"), str(layout.connect_plugins))
    lines = (f"{key}={value}\n" for key, value in worker.items())
    (layout.run / "connect.properties").write_text("".join(lines))
    (layout.run / "connect-log4j2.properties").write_text(LOG4J)
