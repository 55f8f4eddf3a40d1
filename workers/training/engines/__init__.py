"""How an epoch of a stack is computed: by compiled code on a CPU, by batched torch operations elsewhere."""
