"""Before a job is created: is the training at this provider over, and does the base model still answer?"""

from reviewtune.core import clock
from reviewtune.core.config.lifecycle import LifecycleConfig
from reviewtune.core.config.provider import ProviderConfig
from reviewtune.core.terminal.progress import SILENT, Progress
from reviewtune.errors import JobError
from reviewtune.providers.lifecycle import Ending, endings_of, line_about, warn
from reviewtune.providers.shutdown_dates import read_shutdown_dates


def refuse_ended(provider: ProviderConfig, lifecycle: LifecycleConfig, *, progress: Progress = SILENT) -> None:
    """Refuse a job that the provider cannot take any more, and warn of what ends soon.

    The facts are looked at first. Only if they allow the job is the provider asked for the date of its base model.

    Args:
        provider: who is to train.
        lifecycle: the facts.
        progress: receives warnings.

    Raises:
        JobError: the last training day is over, or the base model was shut down.
    """
    models = (provider.base_model,)
    _refuse(provider, endings_of(provider, models, lifecycle))
    dates = read_shutdown_dates(provider, models)
    if dates.fault:
        progress.message(f"not known whether {provider.base_model} ends soon: {dates.fault}")
    live = dates.of(models)
    _refuse(provider, endings_of(provider, models, lifecycle, live))
    warn(progress.message, provider, models, lifecycle, trains=True, live=live)


def _refuse(provider: ProviderConfig, endings: tuple[Ending, ...]) -> None:
    today = clock.today()
    if over := [ending for ending in endings if ending.is_over(today)]:
        line = line_about(provider.base_model, provider, over, today)
        raise JobError(f"{line}; nothing was uploaded ({over[0].source})")
