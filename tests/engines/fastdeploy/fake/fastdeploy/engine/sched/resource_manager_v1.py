"""A scheduler that emits tasks as FastDeploy's does: none for a plain decode, last in is first preempted."""

import os
from collections import deque
from dataclasses import dataclass

from fastdeploy.engine.request import Request, RequestType


@dataclass
class ScheduledDecodeTask:
    idx: int
    request_id: str
    block_tables: list
    task_type: RequestType = RequestType.DECODE


@dataclass
class ScheduledPreemptTask:
    idx: int
    request_id: str
    task_type: RequestType = RequestType.PREEMPTED


@dataclass
class ScheduledAbortTask:
    idx: int
    request_id: str
    task_type: RequestType = RequestType.ABORT


class ResourceManagerV1:
    def __init__(self, config):
        self.block_size = config.cache_config.block_size
        self.free = list(range(config.cache_config.total_block_num))
        self.budget = config.scheduler_config.max_num_batched_tokens
        self.slots = [None] * config.scheduler_config.max_num_seqs
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []

    def schedule(self):
        tasks, budget, preempted = [], self.budget, False
        for request in list(self.running):
            if request not in self.running:
                continue
            decodes = request.num_computed_tokens >= len(request.tokens) - bool(request.output_token_ids)
            count = 1 if decodes else self._chunk(request, budget)
            if not count:
                continue
            last = (len(request.tokens) if decodes else request.num_computed_tokens + count) - 1
            missing = last // self.block_size + 1 - len(request.block_tables)
            while missing > len(self.free):
                preempted = True
                victim = self.running.pop()
                self._give_back(victim)
                tasks.append(ScheduledPreemptTask(victim.idx, victim.request_id))
                self.slots[victim.idx] = None
                self.waiting.appendleft(victim)
                if victim is request:
                    break
            if request not in self.running:
                continue
            if decodes:
                if missing > 0:
                    self._grow(request, missing)
                    tasks.append(
                        ScheduledDecodeTask(request.idx, request.request_id, list(request.block_tables))
                    )
                budget -= 1
            else:
                self._grow(request, missing)
                tasks.append(self._prefill(request, count))
                budget -= count
        while self.waiting and not preempted and None in self.slots:
            request = self.waiting[0]
            count = self._chunk(request, budget)
            missing = -(-count // self.block_size)
            if not count or missing > len(self.free):
                break
            self.waiting.popleft()
            self.running.append(request)
            request.idx = self.slots.index(None)
            self.slots[request.idx] = request
            self._grow(request, missing)
            tasks.append(self._prefill(request, count))
            budget -= count
        return tasks

    def _chunk(self, request, budget):
        rest = len(request.tokens) - request.num_computed_tokens
        count = max(min(rest, budget), 0)
        if os.environ.get("FD_DETERMINISTIC_MODE") == "1" and count < rest:
            size = int(os.environ.get("FD_DETERMINISTIC_SPLIT_KV_SIZE", "16"))
            end = (request.num_computed_tokens + count) // size * size
            count = max(end - request.num_computed_tokens, 0)
        return count

    def _grow(self, request, count):
        request.block_tables += [self.free.pop(0) for _ in range(max(count, 0))]

    def _give_back(self, request):
        self.free += request.block_tables
        request.block_tables, request.num_computed_tokens = [], 0

    def _prefill(self, request, count):
        request.task_type = RequestType.PREFILL
        request.prefill_start_index = request.num_computed_tokens
        request.prefill_end_index = request.num_computed_tokens = request.num_computed_tokens + count
        return request

    def finish(self, request):
        self.running.remove(request)
        self._give_back(request)
        self.slots[request.idx] = None
