"""Live fan-out of events to watchers, each with a bounded queue.

A watcher that does not keep up is cut off from the live events instead of growing or holding the writer up; once it has
read what its queue holds it catches up from the history and joins again.
"""

from __future__ import annotations

import asyncio
from collections import deque

from podling.store.protocol import Event


class Subscription:
    def __init__(self, prefix: str, limit: int) -> None:
        self.prefix = prefix
        self.queue: deque[Event] = deque()
        self.live = False
        """Whether new events are queued; set by Hub.join(), cleared when the queue is full."""
        self._limit = limit
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, event: Event) -> None:
        if not self.live:
            return
        if len(self.queue) >= self._limit:
            self.live = False
            return
        self.queue.append(event)
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, seconds: float | None) -> None:
        """Returns when something is queued or the hub is closed, or after so many seconds."""
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self.wake) if seconds is not None else None
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()


class Hub:
    def __init__(self, queue_limit: int) -> None:
        self.closed = False
        self._queue_limit = queue_limit
        self._subscriptions: dict[str, set[Subscription]] = {}

    def subscribe(self, prefix: str) -> Subscription:
        subscription = Subscription(prefix, self._queue_limit)
        self._subscriptions.setdefault(prefix, set()).add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        subscription.live = False
        same_prefix = self._subscriptions[subscription.prefix]
        same_prefix.discard(subscription)
        if not same_prefix:
            del self._subscriptions[subscription.prefix]

    def publish(self, event: Event) -> None:
        for prefix, subscriptions in self._subscriptions.items():
            if event.key.startswith(prefix):
                for subscription in subscriptions:
                    subscription.offer(event)

    def close(self) -> None:
        """Ends every watch once its queue is read."""
        self.closed = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.live = False
                subscription.wake()
