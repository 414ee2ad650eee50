"""The same stage written for other stream processors, and for ours: one program each, run by the harness."""
