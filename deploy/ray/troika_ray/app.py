"""Puts the application together: `troika_ray.app:build` is what Serve's configuration file imports."""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.schema import LoggingConfig

from .front import Front
from .replica import Replica
from .settings import Settings

# The one node that has the controller of the cluster, by the resource that Ray gives it.
_ON_THE_HEAD = {"node:__internal_head__": 0.001}
# Fronts wait, and compute next to nothing: they are bounded by `max_queued`, not by Serve's number.
_FRONT_ONGOING = 10_000

# `troika serve` logs each request itself, and in one line.
_QUIET = LoggingConfig(enable_access_log=False)


def build(settings: Settings) -> Application:
    """The application, from the `args` of a configuration file."""
    replica = serve.deployment(Replica).options(**_replica_options(settings))  # type: ignore[attr-defined]
    front = serve.deployment(Front).options(**_front_options(settings))  # type: ignore[attr-defined]
    return front.bind(replica.bind(settings.program()), settings.entrance())


def _replica_options(settings: Settings) -> dict[str, Any]:
    policy = AutoscalingPolicy(
        policy_function="troika_ray.scaling:QueueAndTtft",
        policy_kwargs={"target_ongoing": settings.target_ongoing, "target_ttft": settings.target_ttft},
    )
    options: dict[str, Any] = {
        "name": "Replica",
        "logging_config": _QUIET,
        "max_ongoing_requests": settings.max_ongoing,
        "max_queued_requests": settings.max_queued,
        "ray_actor_options": {
            "num_cpus": settings.cpus,
            "num_gpus": settings.gpus,
            "resources": settings.resources,
        },
        "autoscaling_config": AutoscalingConfig(
            min_replicas=settings.min_replicas,
            max_replicas=settings.max_replicas,
            target_ongoing_requests=settings.target_ongoing,
            look_back_period_s=settings.look_back,
            upscale_delay_s=settings.upscale_delay,
            downscale_delay_s=settings.downscale_delay,
            policy=policy,
        ),
        "request_router_config": _router(
            request_router_class="troika_ray.routing:PrefixRouter",
            request_router_kwargs={"spill_factor": settings.spill_factor, "spill_floor": settings.spill_floor},
            # A replica with room again should not wait for its next request.
            max_backoff_s=0.1,
        ),
        "health_check_period_s": settings.health_period,
        "health_check_timeout_s": 10.0,
        # Serve waits for running answers; then the server has its own time to drain.
        "graceful_shutdown_wait_loop_s": 0.5,
        "graceful_shutdown_timeout_s": 2 * settings.drain_timeout + 5.0,
    }
    if settings.replicas_per_node is not None:
        options["max_replicas_per_node"] = settings.replicas_per_node
    return options


def _front_options(settings: Settings) -> dict[str, Any]:
    at_head = settings.entry == "head"
    options: dict[str, Any] = {
        "name": "Front",
        "logging_config": _QUIET,
        "num_replicas": settings.fronts,
        "max_ongoing_requests": _FRONT_ONGOING,
        "ray_actor_options": {"num_cpus": 0, "resources": _ON_THE_HEAD if at_head else {}},
        "request_router_config": _router(request_router_class="troika_ray.routing:Nearby"),
        "graceful_shutdown_timeout_s": 2 * settings.drain_timeout + 10.0,
    }
    if not at_head:
        options["max_replicas_per_node"] = 1
    return options


def _router(**fields: Any) -> RequestRouterConfig:
    return RequestRouterConfig.model_validate(fields)
