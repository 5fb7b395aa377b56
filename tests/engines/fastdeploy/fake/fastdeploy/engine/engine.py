"""The engine: a worker a rank in a thread, and a scheduler that hears what rank 0 drew."""

import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import paddle

from fastdeploy.engine.request import Request
from fastdeploy.engine.sched.resource_manager_v1 import ResourceManagerV1

EOS = 1


class Processor:
    """Bytes as tokens."""

    def process_request_dict(self, task, max_model_len):
        text = task.get("prompt") or "".join(message["content"] for message in task.get("messages", ()))
        task["prompt_token_ids"] = task.get("prompt_token_ids") or [byte % 64 for byte in text.encode()]
        task["eos_token_ids"] = [EOS]
        return task


class LLMEngine:
    # requests to wait for before the first is scheduled
    expected = 0

    def __init__(self, cfg):
        self.cfg, self.data_processor = cfg, Processor()
        self.received, self.failure = 0, None
        self.lock = threading.Lock()
        self.resources = ResourceManagerV1(cfg)
        self.stopping, self.ready = threading.Event(), threading.Event()
        self._finalizer = weakref.finalize(self, self._stop, self.stopping, threads := [])
        self.threads = threads

    @classmethod
    def from_engine_args(cls, args):
        return cls(args.create_engine_config())

    @staticmethod
    def _stop(stopping, threads):
        stopping.set()
        for thread in threads:
            thread.join()

    def start(self):
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.threads.append(self.thread)
        self.thread.start()
        self.worker_proc = self
        self.ready.wait()
        # as FastDeploy does: its LLM does not look at this
        return self.failure is None

    def poll(self):
        """As of a process: None while it runs."""
        return None if self.thread.is_alive() else 1

    def add_requests(self, task, sampling_params=None):
        task.update({key: value for key, value in vars(sampling_params).items() if value is not None})
        request = Request.from_dict(self.data_processor.process_request_dict(task, 0))
        with self.lock:
            self.resources.waiting.append(request)
            self.received += 1

    def _runner(self, rank):
        from fastdeploy.plugins.model_runner import load_model_runner_plugins

        try:
            runner_class = load_model_runner_plugins()
        except Exception:
            # as FastDeploy does: nobody is told
            from fastdeploy.worker.gpu_model_runner import GPUModelRunner as runner_class
        runner = runner_class(fd_config=self.cfg, device="cpu", device_id=0, rank=rank, local_rank=rank)
        runner.load_model()
        runner.profile_run()
        return runner

    def _work(self):
        try:
            # Paddle asks every thread whether it runs eagerly
            ranks = self.cfg.parallel_config.tensor_parallel_size
            pool = ThreadPoolExecutor(ranks, initializer=paddle.disable_static)
            runners = [pool.submit(self._runner, rank).result() for rank in range(ranks)]
        except Exception as error:
            self.failure = error
            return
        finally:
            self.ready.set()
        while not self.stopping.is_set():
            with self.lock:
                ready = self.received >= self.expected
                tasks = self.resources.schedule() if ready else []
                turns = [pool.submit(self._turn, runner, tasks) for runner in runners]
                for turn in turns:
                    turn.result()
                busy = self._take(runners[0])
            if not busy:
                time.sleep(0.001)

    def _turn(self, runner, tasks):
        if tasks:
            runner.insert_tasks_v1(tasks, len(self.resources.slots))
        runner.execute_model(tasks or None, len(self.resources.slots))

    def _take(self, runner):
        output, runner.output = runner.output, None
        if output is None:
            return False
        for slot, (token, stopped) in output.items():
            request = self.resources.slots[slot]
            if request is None:
                continue
            request.output_token_ids.append(token)
            request.num_computed_tokens = len(request.tokens) - 1
            if stopped:
                self.resources.finish(request)
        return True
