"""Time a training step while other programs use the processor: on one and on several threads, which spin or sleep while they wait.

The other programs are `--load` endless loops. Each row is its own process. All rows of a load run in turns, and the medians over the turns are
printed. "spin" is PyTorch's default, "sleep" is the setting of `onebit train` (`onebit.training.openmp`).
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

SPIN, SLEEP = "spin", "sleep"


def step_ms(network: str, threads: int, waiting: str, steps: int) -> float:
    """Milliseconds a training step, the median of `steps`, in this process."""
    import torch
    import torch.nn.functional as F

    from onebit.models import conv_classifier, language_decoder
    from onebit.training.openmp import use_threads

    torch.manual_seed(0)
    if waiting == SLEEP:
        use_threads(threads)
    else:
        torch.set_num_threads(threads)
    if network == "images":
        model = conv_classifier(3, 10, widths=(16, 32), in_channels=1)
        x, y = torch.rand(64, 1, 28, 28), torch.randint(10, (64,))
    else:
        sizes = {"vocabulary": 4096, "context": 128, "blocks": 4, "features": 256, "heads": 4, "head": (256,)}
        model = language_decoder(sizes, form="paper")
        x = torch.randint(4096, (8, 128))
        y = x.roll(-1).flatten()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    times = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        optimizer.zero_grad()
        F.cross_entropy(model(x).flatten(0, -2), y).backward()
        optimizer.step()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--load", type=int, nargs="+", default=[0, cores, 2 * cores], help="how many other programs")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, cores])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        print(step_ms(**json.loads(arguments.row)))
        return
    rows = [
        (threads, waiting)
        for threads in arguments.threads
        for waiting in (SPIN, SLEEP)
        if threads > 1 or waiting == SPIN
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    print(f"{'network':8} {'others':>6} {'threads':>7} {'waiting':>8} {'ms a step':>10} {'over one thread':>16}")
    for network in ("images", "text"):
        for load in arguments.load:
            others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
            try:
                times: dict[tuple[int, str], list[float]] = {row: [] for row in rows}
                for _ in range(arguments.turns):
                    for threads, waiting in rows:
                        row = {"network": network, "threads": threads, "waiting": waiting, "steps": arguments.steps}
                        done = subprocess.run(
                            [sys.executable, __file__, "--row", json.dumps(row)],
                            capture_output=True,
                            text=True,
                            check=True,
                            env=environment,
                        )
                        times[threads, waiting].append(float(done.stdout))
            finally:
                for other in others:
                    other.kill()
                    other.wait()
            one = statistics.median(times[rows[0]])
            for threads, waiting in rows:
                median = statistics.median(times[threads, waiting])
                print(
                    f"{network:8} {load:6} {threads:7} {waiting if threads > 1 else '':>8} {median:10.1f} {median / one:16.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
