"""The embedded stack: every server and service as a local process, and the command that runs it.

For whoever adds a verb (`deploy/local/verbs_*.py`):

    from deploy.local.stack import Stack
    from deploy.local.status import status

    stack = Stack.require()           # the running stack of TILLSTREAM_HOME, or CommandError (exit 3)
    stack = Stack.current()           # the same, but None if none
    stack.urls()["postgres"]          # the `urls` of `status --json`: ingest, query, graphql, kafka, registry
    stack.ports.url("ledger")         # http://127.0.0.1:<port>; names: deploy.local.ports.OFFSETS
    stack.layout.home, .lake, .logs   # paths (deploy.local.layout.Layout)
    status(stack).service("quality")  # state, pid, lag, restarts
    status(stack).ready               # whether all of it is ready
    status(stack).to_json()           # the shape of `status --json`

    from deploy.local.verbs_stack import bring_down, bring_up
    stack, started = bring_up()       # all ready; `started` is False when it ran already; progress on stderr
    bring_down(stack.layout)          # stop everything of that home

A verb module has `register(subparsers)`, which adds its parsers with `set_defaults(run=FUNCTION)`; a FUNCTION
takes the parsed `argparse.Namespace` and returns an exit code (`deploy.local.errors`). List the module in
`deploy.local.cli.VERB_MODULES`. It must import with the standard library only (third-party imports go inside
functions), because `--help`, `doctor` and `status` work before anything is installed. What goes wrong on
purpose is a `CommandError`: one clear line and an exit code. Results go to standard output, all else to
standard error.
"""
