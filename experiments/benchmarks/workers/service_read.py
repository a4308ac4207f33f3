"""Several trainers that read the same order at a time, each by itself or through one input service.

The trainers are processes that run `own_read.py`; the service is one that serves all of them.
"""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys

from worker_protocol import serve

_OWN_READ = pathlib.Path(__file__).with_name("own_read.py")


class Trainers:
    """A step is a batch of each trainer; they take theirs at the same time."""

    def __init__(self):
        self._trainers: list[subprocess.Popen] = []
        self._services: list[subprocess.Popen] = []

    def prepare(self, options: dict) -> dict:
        """Starts `trainers` processes, and with `through_service` a service for them."""
        reading = {name: options[name] for name in ("prepared", "batch_size")}
        if options["through_service"]:
            command = [sys.executable, "-P", "-m", "data_pipeline.input_service", "--quiet"]
            self._services = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True)]
            reading["service"] = self._services[0].stdout.readline().strip()
        self._trainers = [
            subprocess.Popen(
                [sys.executable, str(_OWN_READ)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(options["trainers"])
        ]
        self._ask(command="prepare", options=reading)
        return {}

    def run(self, steps: int) -> int:
        """Examples of all trainers together."""
        return sum(answer["examples"] for answer in self._ask(command="run", steps=steps))

    def end(self) -> None:
        """Ends the processes."""
        self._signal(signal.SIGCONT)
        for trainer in self._trainers:
            trainer.stdin.close()
            trainer.wait()
        for service in self._services:
            service.terminate()
            service.wait()

    def _ask(self, **request: object) -> list[dict]:
        self._signal(signal.SIGCONT)
        try:
            return self._answers(request)
        finally:  # as this process is: they would go on to fill their buffers
            self._signal(signal.SIGSTOP)

    def _signal(self, number: int) -> None:
        for process in [*self._trainers, *self._services]:
            process.send_signal(number)

    def _answers(self, request: dict) -> list[dict]:
        for trainer in self._trainers:
            trainer.stdin.write(json.dumps(request) + "\n")
            trainer.stdin.flush()
        answers = [json.loads(trainer.stdout.readline()) for trainer in self._trainers]
        if errors := [answer["error"] for answer in answers if "error" in answer]:
            raise RuntimeError(errors[0])
        return answers


if __name__ == "__main__":
    trainers = Trainers()
    serve(trainers)
    trainers.end()
