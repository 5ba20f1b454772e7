"""What can be set, and what is refused: the `args` of the application in Serve's configuration file.

Serve starts everything anew, a part at a time, when they change. Numbers of replicas can be changed without that, in
the file's own `deployments`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

# What the replica decides itself: it listens on its own machine only, at a port that is free.
_OURS = ("--host", "--port", "--keys-file", "--allow-unauthenticated-network", "--drain-timeout")


class Program(BaseModel):
    """What a replica is to run."""

    troika: str = Field("troika", description="program, by path or as PATH has it")
    serve_args: list[str] = Field(default_factory=list, description="more flags of `troika serve`")
    env: dict[str, str] = Field(default_factory=dict, description="variables of the program, such as TROIKA_HOME")
    warm: list[str] = Field(default_factory=list, description="models that are loaded before a replica counts as ready")
    keys_file: str | None = Field(None, description="API keys, at the same path on every node")
    key_variable: str = Field("TROIKA_RAY_KEY", description="variable on the nodes that holds a key of scope `admin`")
    start_timeout: PositiveFloat = Field(60.0, description="time to listen")
    warm_timeout: PositiveFloat = Field(600.0, description="time to load a model that is to be warm")
    drain_timeout: PositiveFloat = Field(30.0, description="time that running answers have when a replica goes")
    # Serve collects numbers every ten seconds.
    look_back: float = Field(30.0, gt=10.0, description="time over which queue and first tokens are looked at")


class Entrance(BaseModel):
    """What a front has to know."""

    prefix_chars: PositiveInt = Field(2048, description="characters of each text of the beginning that count")
    body_limit: PositiveInt = Field(8 << 20, description="bytes of a request's body at most")
    patience: PositiveFloat = Field(60.0, description="wait for a replica before a request is answered 503")
    tries: PositiveInt = Field(5, description="replicas that one request is given to at most")


class Settings(Program, Entrance):
    """Settings of the whole application. Times are in seconds; an unknown name is refused."""

    model_config = ConfigDict(extra="forbid")

    allow_unauthenticated_network: bool = Field(False, description="serve without keys")

    # How many replicas, and what each takes of a node.
    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 1
    cpus: NonNegativeFloat = Field(1.0, description="CPUs that Ray sets aside for a replica")
    gpus: NonNegativeFloat = Field(0.0, description="GPUs, of which the replica sees no others")
    resources: dict[str, float] = Field(default_factory=dict, description="resources of your own that a node must have")
    replicas_per_node: PositiveInt | None = Field(None, description="at most so many on a node")

    # When there are more of them, and when fewer.
    target_ongoing: PositiveFloat = Field(16.0, description="requests that a replica should have at a time")
    target_ttft: PositiveFloat | None = Field(5.0, description="95 of 100 first tokens come within this; null: no matter")
    upscale_delay: NonNegativeFloat = Field(30.0, description="how long more must be wanted")
    downscale_delay: NonNegativeFloat = Field(600.0, description="how long fewer must be wanted")

    # How full one gets, and when a conversation leaves it.
    max_ongoing: PositiveInt = Field(80, description="requests a replica takes; more wait at the front")
    max_queued: PositiveInt = Field(1000, description="requests that wait at a front; more are answered 429")
    spill_factor: float = Field(1.25, gt=1.0, description="spill where a replica has so many times the mean")
    spill_floor: PositiveInt = Field(4, description="never spill from a replica with fewer requests than this")

    # Where requests come in.
    entry: Literal["head", "nodes"] = Field("head", description="a front on the head node, or one each on `fronts` nodes")
    fronts: PositiveInt = Field(1, description="number of fronts where entry is `nodes`")
    health_period: PositiveFloat = Field(5.0, description="time from one look at a replica's health to the next")

    @model_validator(mode="after")
    def _makes_sense(self) -> Settings:
        for flag in self.serve_args:
            name = flag.split("=", 1)[0]
            if name in _OURS:
                raise ValueError(f"serve_args: {name} is the application's own; see its settings")
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas is {self.max_replicas}, less than min_replicas, {self.min_replicas}")
        if self.entry == "head" and self.fronts != 1:
            raise ValueError("fronts: there is one head node, and so one front; set `entry: nodes` for more")
        if self.keys_file is None and not self.allow_unauthenticated_network:
            raise ValueError(
                "no keys: set keys_file (`troika keys add NAME` writes one), or say"
                " `allow_unauthenticated_network: true` if nobody else reaches this cluster"
            )
        return self

    def program(self) -> dict[str, object]:
        """The replica's part."""
        return self.model_dump(include=set(Program.model_fields))

    def entrance(self) -> dict[str, object]:
        """The front's part."""
        return self.model_dump(include=set(Entrance.model_fields))
