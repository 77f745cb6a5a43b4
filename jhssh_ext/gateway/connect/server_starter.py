"""Gets a user server running, once however many wait for it, and tells each of them how it goes."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from ...errors import HubUnavailable, KeyUnknown, ServerStopped, ShuttingDown, SpawnFailed, SSHNotEnabled
from ...login_names import UserServer
from ...payloads import ServerState
from .hub_client import HubClient
from .hub_models import ServerModel, UserModel

MAX_MESSAGES = 200
"""progress messages shown for one start"""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 5.0
"""seconds between two looks at a server that is neither ready nor stopped"""
UNTOLD = ("", "Spawn failed", "Internal Server Error", "error", "timeout")
"""what the Hub says when it says nothing"""

log = logging.getLogger("jhssh.server_starter")


class ServerStarter:
    """``spawn_url`` gives the page of a server's options, "" where no public address is known.

    ``start_timeout`` bounds one start with all its waiting, ``hub_patience`` how long the Hub may be away meanwhile; in seconds.
    """

    def __init__(
        self,
        hub: HubClient,
        spawn_url: Callable[[UserServer], str],
        *,
        start_timeout: float = 300.0,
        hub_patience: float = 30.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        started: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self.hub = hub
        self.spawn_url = spawn_url
        self.start_timeout = start_timeout
        self.hub_patience = hub_patience
        self._sleep = sleep
        self._started = started
        self._starts: dict[UserServer, _Start] = {}

    async def running(
        self,
        target: UserServer,
        *,
        may_start: bool,
        on_progress: Callable[[str], None],
        options: Mapping[str, Any] | None = None,
    ) -> tuple[ServerState, bool]:
        """Where the server is reached, and whether this call had to wait for its start.

        ``options`` are what its user says of this start: they go over those saved, and may turn SSH on again, or off. None as
        value takes a saved one away.
        A waiter that is cancelled leaves alone: the spawn goes on, for the others or for its user's next try. Raises KeyUnknown,
        ServerStopped, SSHNotEnabled, SpawnFailed, HubUnavailable, ShuttingDown.
        """
        model = await self._model(target)
        if model.ready:
            return self._state(target, model), False
        if not may_start:
            raise ServerStopped(explanation=f"{target} is {'pending ' + model.pending if model.pending else 'stopped'}")
        if model.pending is None and options is None:
            self._check_wanted(target, model)
        start = self._starts.get(target)
        if start is None:
            start = self._starts[target] = _Start(self, target, options)
            start.task.add_done_callback(lambda _: self._starts.pop(target, None))
        return await start.wait(on_progress), True

    def starting(self, target: UserServer) -> bool:
        """Does anybody wait here for its start?"""
        return target in self._starts

    async def give_up(self, target: UserServer) -> None:
        """Ends the wait for a start that nobody wants any more; a spawn that was asked for goes on at the Hub."""
        start = self._starts.get(target)
        if start is not None and not start.wanted:
            start.task.cancel()
            await asyncio.wait({start.task})

    def state_of(self, target: UserServer, user: UserModel | None) -> ServerState:
        """Where a server that runs is reached, by what the Hub says of its user; starts nothing. Raises as ``running``."""
        if user is None or target.server not in user.servers:
            raise KeyUnknown(explanation=f"the Hub has no user server {target}")
        model = user.servers[target.server]
        if not model.ready:
            raise ServerStopped(explanation=f"{target} is {'pending ' + model.pending if model.pending else 'stopped'}")
        return self._state(target, model)

    async def close(self) -> None:
        """Ends the waiting; spawns that were asked for go on at the Hub."""
        tasks = [start.task for start in self._starts.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _model(self, target: UserServer) -> ServerModel:
        user = await self.hub.user(target.user)
        if user is None or target.server not in user.servers:
            raise KeyUnknown(explanation=f"the Hub has no user server {target}")
        return user.servers[target.server]

    def _state(self, target: UserServer, model: ServerModel) -> ServerState:
        if not model.state_known:
            raise HubUnavailable(
                explanation=f"the Hub does not tell where {target} is: give the gateway's service the scope admin:server_state, "
                "and let Hub and gateway have the same version of jhssh-ext"
            )
        if model.state is None:
            raise self._not_enabled(target, f"{target} was started without SSH")
        return model.state

    def _check_wanted(self, target: UserServer, model: ServerModel) -> None:
        """A server whose user unticked the box is not started with SSH by a connection."""
        if model.user_options.get("enable_ssh") is False:
            raise self._not_enabled(target, f"the saved options of {target} say enable_ssh: false")

    def _not_enabled(self, target: UserServer, explanation: str) -> SSHNotEnabled:
        url = self.spawn_url(target)
        if not url:
            return SSHNotEnabled(explanation=f"{explanation}; set public_url, so that users are told where to turn it on")
        sentence = f"SSH access is off for this server. Stop it, tick “Enable SSH access” and start it again: {url}"
        return SSHNotEnabled(sentence, explanation=explanation)

    def _failed(self, target: UserServer, message: str) -> SpawnFailed:
        said = message.removeprefix("Spawn failed: ")
        if said in UNTOLD:
            return SpawnFailed(explanation=f"the spawn of {target} failed; the Hub's log has more")
        sentence = f"Your server could not be started. The Hub says: {said}"
        return SpawnFailed(sentence, explanation=f"the spawn of {target} failed: {said}")


class _Start:
    """One start of one user server, and those who wait for it."""

    def __init__(self, starter: ServerStarter, target: UserServer, options: Mapping[str, Any] | None) -> None:
        self.starter = starter
        self.target = target
        self.options = options
        self._told: list[str] = []
        self._listeners: list[Callable[[str], None]] = []
        self._failure = ""
        self._hub_seen = time.monotonic()
        self.task = asyncio.create_task(self._bounded())
        # Who waits gets the error; where nobody is left, nobody does.
        self.task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())

    @property
    def wanted(self) -> bool:
        """By somebody who waits."""
        return bool(self._listeners)

    async def wait(self, on_progress: Callable[[str], None]) -> ServerState:
        for message in self._told[-1:]:
            on_progress(message)
        self._listeners.append(on_progress)
        try:
            await asyncio.wait({self.task})
        finally:
            self._listeners.remove(on_progress)
        if self.task.cancelled():
            raise ShuttingDown(explanation=f"the wait for the start of {self.target} was given up")
        return self.task.result()

    def _tell(self, message: str) -> None:
        """Each message once, however often the stream is opened."""
        if not message or message in self._told or len(self._told) >= MAX_MESSAGES:
            return
        self._told.append(message)
        for listener in list(self._listeners):
            try:
                listener(message)
            except Exception:  # a client that is gone must not hold up the others
                log.debug("a progress message reached nobody", exc_info=True)

    async def _bounded(self) -> ServerState:
        limit = self.starter.start_timeout
        begin = time.monotonic()
        try:
            state = await asyncio.wait_for(self._run(), limit)
        except asyncio.TimeoutError:
            raise SpawnFailed(
                f"Your server was not ready after {limit:.0f} seconds. Connect again in a minute, or look in the browser.",
                explanation=f"{self.target} was not ready within start_timeout ({limit:.0f} s)",
            ) from None
        self.starter._started(time.monotonic() - begin)
        return state

    async def _run(self) -> ServerState:
        asked = False
        pause = FIRST_PAUSE
        while True:
            model = await self._look()
            if model is not None and model.ready:
                return self.starter._state(self.target, model)
            if model is not None and model.pending == "spawn":
                asked = True
                if await self._follow() and pause == FIRST_PAUSE:
                    pause *= 2
                    continue
                if self._failure:
                    raise self.starter._failed(self.target, self._failure)
            elif model is not None and model.pending is None:
                if asked:
                    raise self.starter._failed(self.target, await self._why())
                if not self.wanted:
                    raise ServerStopped(explanation=f"nobody waits for {self.target} any more")
                asked = await self._ask(model)
                continue
            elif model is not None and model.pending == "stop":
                self._tell("Your server is being stopped: waiting until it can be started again.")
            await self._pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _look(self) -> ServerModel | None:
        """The server as the Hub has it now; None while the Hub is away, for at most ``hub_patience``."""
        try:
            model = await self.starter._model(self.target)
        except HubUnavailable as error:
            log.debug("look at %s: %s", self.target, error)
            if time.monotonic() - self._hub_seen > self.starter.hub_patience:
                raise
            self._tell("The Hub does not answer right now: waiting for it.")
            return None
        self._hub_seen = time.monotonic()
        return model

    async def _ask(self, model: ServerModel) -> bool:
        """Ask the Hub for the start; False where it has to be asked again."""
        if self.options is None:
            self.starter._check_wanted(self.target, model)
        self._tell("Starting your server.")
        options = self.options or {}
        wanted = {**model.user_options, "enable_ssh": True, **options}
        wanted = {name: value for name, value in wanted.items() if value is not None or name not in options}
        post = asyncio.create_task(self.starter.hub.start(self.target, wanted))
        watch = asyncio.create_task(self._watch())
        try:
            answer = await post
        except HubUnavailable as error:
            # Perhaps it heard us: the next look shows.
            log.info("A start of %s was not answered: %s", self.target, error)
            if time.monotonic() - self._hub_seen > self.starter.hub_patience:
                raise
            await self._pause(1.0)
            return False
        finally:
            post.cancel()
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        if answer.kind == "busy":
            self._tell(answer.message or "The Hub is busy: waiting for my turn.")
            await self._pause(answer.retry_after or LONGEST_PAUSE)
            return False
        if answer.kind in ("refused", "failed"):
            # Perhaps another start was faster: the next look shows.
            now = await self._look()
            if now is None or not (now.ready or now.pending):
                # A refusal speaks for itself; of a spawn that failed the progress knows more.
                why = await self._why() if answer.kind == "failed" else ""
                raise self.starter._failed(self.target, answer.message if why in UNTOLD else why)
        return True

    async def _watch(self) -> None:
        """Progress while the Hub holds back its answer to the start (slow_spawn_timeout); what failed before does not count."""
        while True:
            await asyncio.sleep(FIRST_PAUSE)
            await self._follow()

    async def _follow(self) -> bool:
        """Tell the progress until the spawn is over or the stream breaks off; True: it is ready. Leaves ``_failure``."""
        self._failure = ""
        try:
            async with aclosing(self.starter.hub.progress(self.target)) as events:
                async for event in events:
                    if event.ready:
                        return True
                    if event.failed:
                        self._failure = event.message or UNTOLD[1]
                    else:
                        self._tell(event.message)
        except HubUnavailable as error:
            log.debug("progress of %s: %s", self.target, error)
        return False

    async def _why(self) -> str:
        """What the Hub says about the spawn that has just failed."""
        await self._follow()
        return self._failure

    async def _pause(self, seconds: float) -> None:
        # A little apart, so that those who were told the same time do not come together.
        await self.starter._sleep(seconds * random.uniform(1.0, 1.2))  # noqa: S311 (no secret)
