"""Makes a training from the rows of claimed runs: configuration, data, and the last committed checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session, undefer
from torch import Tensor

from app import blobs
from app.database import Database
from app.datasets import repository as datasets
from app.datasets import service as dataset_service
from app.datasets.catalog import DATASETS
from app.errors import DamagedData, NotFound
from app.models import repository as models
from app.queue.claiming import Claim
from app.run_config import Cosine, Ensemble, Mlp, RandomForest, RunConfig
from app.run_config import Split as SplitConfig
from app.sweeps.halving import rung_epochs
from app.sweeps.schemas import SuccessiveHalving
from app.tables import Checkpoint, Dataset, Run, Split, Sweep
from workers.training import TrainingLoop, TrainingRun, serialization
from workers.training.bank import Banks
from workers.training.checkpoint import TrainingState
from workers.training.config import (
    AugmentationConfig,
    CosineConfig,
    ForestConfig,
    MlpConfig,
    OptimizerConfig,
    StoppingConfig,
)
from workers.training.data import Scaling, SplitData, fold_indices, load_dataset, split_indices, to_image_tensors
from workers.training.engines.choice import CudaEngine
from workers.training.ensemble import EnsembleTraining, SavedNetwork, UnusableMember
from workers.training.loop import StackTraining
from workers.training.shifted import SplitImages
from workers.training.stack import Member
from workers.training.tensors import ImageTensors, SplitIndices

RUNS_AT_ONCE = 50  # read by one query: one for each run would take most of a large stack's preparation


@dataclass(frozen=True)
class Rungs:
    """The epochs at which a sweep with successive halving compares this trial with others."""

    sweep_id: str
    epochs: tuple[int, ...]
    reduction: int


@dataclass(frozen=True)
class PreparedRun:
    """Everything that is needed to train a run."""

    claim: Claim
    config: RunConfig
    data: SplitData
    split: SplitIndices
    images: SplitImages
    checkpoints: dict[str, TrainingState]  # by role, as last committed
    rungs: Rungs | None = None
    members: Sequence[SavedNetwork] = ()  # of an ensemble


@dataclass(frozen=True)
class Unreadable:
    """A run that cannot be trained, since something that it needs is damaged or gone."""

    claim: Claim
    error: Exception


@dataclass(frozen=True)
class _Stored:
    """What the database holds of a claimed run."""

    config: dict[str, Any]
    epochs: int
    sweep_id: str | None
    checkpoints: list[Checkpoint] = field(default_factory=list)


class Preparation:
    """Reads claimed runs and their data; each dataset and split is read once per stack.

    Args:
        database: Holds runs, datasets and splits.
        default_device: The device of runs with `device: auto`.
        banks: Warped copies of images, which outlive the stack; None: new ones.
        cuda_engine: Trains on CUDA.
    """

    def __init__(
        self,
        database: Database,
        default_device: str,
        banks: Banks | None = None,
        cuda_engine: CudaEngine = "auto",
    ) -> None:
        self._database = database
        self._default_device = default_device
        self._banks = banks or Banks()
        self._cuda_engine: CudaEngine = cuda_engine
        self._datasets: dict[str, dataset_service.Images] = {}
        self._tensors: dict[tuple[str, Scaling], ImageTensors] = {}
        self._splits: dict[tuple[str, SplitConfig], tuple[SplitIndices, SplitData, SplitImages]] = {}
        self._stopping: dict[str, dict[str, Any] | None] = {}  # by sweep; None: there is no such sweep or no stopping

    def read(self, claim: Claim) -> PreparedRun:
        """A run's configuration, data and checkpoints.

        Raises:
            DamagedData: The dataset or a checkpoint does not match its digest.
            ValueError: A checkpoint was written by another version.
            UnusableMember: A member of an ensemble is gone or damaged.
            NotFound: The run has been deleted.
        """
        (found,) = self.read_all([claim])
        if isinstance(found, Unreadable):
            raise found.error
        return found

    def read_all(self, claims: Sequence[Claim]) -> Iterator[PreparedRun | Unreadable]:
        """Read runs in the order of their claims, many at once; an error of one run does not end the others' reading.

        Raises:
            DBAPIError: The database fails.
        """
        for start in range(0, len(claims), RUNS_AT_ONCE):
            part = claims[start : start + RUNS_AT_ONCE]
            stored = self._fetch(part)
            for claim in part:
                yield self._try_to_prepare(claim, stored.get(claim.run_id))

    def _fetch(self, claims: Sequence[Claim]) -> Mapping[str, _Stored]:
        """Read the rows of runs, of their checkpoints and sweeps; by run id, without those of deleted runs."""
        run_ids = [claim.run_id for claim in claims]
        query = select(Run.id, Run.config, Run.epochs, Run.sweep_id).where(Run.id.in_(run_ids))
        of_runs = select(Checkpoint).where(Checkpoint.run_id.in_(run_ids)).options(undefer(Checkpoint.blob))
        with self._database.reading() as session:
            stored = {row.id: _Stored(row.config, row.epochs, row.sweep_id) for row in session.execute(query)}
            for checkpoint in session.scalars(of_runs):
                stored[checkpoint.run_id].checkpoints.append(checkpoint)
            unknown = {run.sweep_id for run in stored.values() if run.sweep_id is not None} - self._stopping.keys()
            if unknown:
                stopping = select(Sweep.id, Sweep.stopping).where(Sweep.id.in_(unknown))
                self._stopping |= dict.fromkeys(unknown)
                self._stopping |= {row.id: row.stopping for row in session.execute(stopping)}
        return stored

    def _try_to_prepare(self, claim: Claim, stored: _Stored | None) -> PreparedRun | Unreadable:
        try:
            return self._prepare(claim, stored)
        except DBAPIError:
            raise
        except Exception as error:
            return Unreadable(claim, error)

    def _prepare(self, claim: Claim, stored: _Stored | None) -> PreparedRun:
        """Make a run from what is stored; see `read`."""
        if stored is None:
            raise NotFound(f"There is no run {claim.run_id}.", slug="run-not-found")
        config = RunConfig.model_validate(stored.config)
        checkpoints = {row.role: serialization.from_bytes(_checked(row)) for row in stored.checkpoints}
        members: Sequence[SavedNetwork] = ()
        if isinstance(config.model, Ensemble):
            with self._database.reading() as session:
                members = _read_members(session, config.model)
        split, data, images = self._load_split(config)
        return PreparedRun(claim, config, data, split, images, checkpoints, self._rungs_of(stored), members)

    def _rungs_of(self, stored: _Stored) -> Rungs | None:
        found = None if stored.sweep_id is None else self._stopping.get(stored.sweep_id)
        if stored.sweep_id is None or found is None:
            return None
        stopping = SuccessiveHalving.model_validate(found)
        epochs = rung_epochs(stored.epochs, rungs=stopping.rungs, reduction=stopping.reduction)
        return Rungs(stored.sweep_id, epochs, stopping.reduction)

    def read_images(self, config: RunConfig) -> SplitImages:
        """The images that a configuration's saved model is evaluated on.

        Raises:
            DamagedData: The dataset does not match its digest.
        """
        return self._load_split(config)[2]

    def device_of(self, run: PreparedRun) -> str:
        if not isinstance(run.config.model, Mlp):
            return "cpu"
        return self._default_device if run.config.device == "auto" else run.config.device

    def make_training(self, runs: Sequence[PreparedRun]) -> tuple[TrainingLoop, list[TrainingRun]]:
        """Make one training of runs that fit together, restored from their checkpoints; its runs are in this order."""
        model = runs[0].config.model
        if isinstance(model, RandomForest):
            from workers.training.forest import ForestTraining  # imports scikit-learn, which is slow to load

            (run,) = runs
            forest = ForestTraining(_forest_config(run.config, model), run.data)
            return forest, [forest]
        if isinstance(model, Ensemble):
            (run,) = runs
            ensemble = EnsembleTraining(run.members, run.data)
            return ensemble, [ensemble]
        place = torch.device(self.device_of(runs[0]))
        bank = self._load_bank(runs, place)
        members = [
            Member(mlp_config(run.config, run.rungs), self._load_tensors(run.config), run.split, bank) for run in runs
        ]
        training = StackTraining(members, place, cuda_engine=self._cuda_engine)
        trained = list(training.active)
        for run, mlp in zip(runs, trained, strict=True):
            if "last" in run.checkpoints:
                mlp.restore(run.checkpoints["last"], run.checkpoints.get("best"))
        return training, [*trained]

    def _load_images(self, dataset: str) -> dataset_service.Images:
        if dataset not in self._datasets:
            with self._database.reading() as session:
                self._datasets[dataset] = dataset_service.get_images(session, dataset)
        return self._datasets[dataset]

    def _load_split(self, config: RunConfig) -> tuple[SplitIndices, SplitData, SplitImages]:
        key = config.dataset, config.split
        if key not in self._splits:
            row = _ensure_split(self._database, *key)
            images = self._load_images(config.dataset)
            split = _indices(row)
            if config.split.fold is not None:
                whole = config.split.model_copy(update={"fold": None})
                _check_fold(split, _indices(_ensure_split(self._database, config.dataset, whole)))
            parts = images.pixels, images.labels, split
            self._splits[key] = split, SplitData.of(*parts), SplitImages(*parts)
        return self._splits[key]

    def _load_tensors(self, config: RunConfig) -> ImageTensors:
        assert config.scaling is not None, "validated: an mlp has scaling"
        key = config.dataset, config.scaling
        if key not in self._tensors:
            images = self._load_images(config.dataset)
            self._tensors[key] = to_image_tensors(images.pixels, images.labels, config.scaling)
        return self._tensors[key]

    def _load_bank(self, runs: Sequence[PreparedRun], place: torch.device) -> Tensor | None:
        """The bank of a stack, which has one dataset and strength; None: it trains without augmentation."""
        found = [run.config.augmentation for run in runs]
        wanted = [augmentation for augmentation in found if augmentation is not None]
        if not wanted:
            return None
        dataset = runs[0].config.dataset
        num_copies = max(augmentation.copies for augmentation in wanted)
        pixels = self._load_images(dataset).pixels
        return self._banks.get(dataset, pixels, wanted[0].strength, num_copies, place)


def register_datasets(database: Database) -> None:
    """Store every dataset's images and the notebook's split, so that the API can show them without scikit-learn."""
    for name in DATASETS:
        with database.reading() as session:
            is_missing = datasets.get_dataset(session, name) is None
        if is_missing:
            pixels, labels = (array.tobytes() for array in load_dataset(name))
            digest = blobs.digest(pixels + labels)
            row = Dataset(name=name, num_samples=len(labels), pixels=pixels, labels=labels, sha256=digest)
            _add_if_absent(database, row)
        _ensure_split(database, name, SplitConfig())


def _ensure_split(database: Database, dataset: str, config: SplitConfig) -> Split:
    """The stored split of this configuration; it is made and stored at its first use."""
    with database.reading() as session:
        stored = _find_split(session, dataset, config)
        if stored is not None:
            return stored
        labels = dataset_service.get_images(session, dataset).labels
    if config.fold is None:
        made = split_indices(labels, val_size=config.val_size, test_size=config.test_size, seed=config.seed)
    else:
        whole = _indices(_ensure_split(database, dataset, config.model_copy(update={"fold": None})))
        made = fold_indices(labels, whole, number=config.fold.number, num_folds=config.fold.of)
    parts = {part: np.asarray(getattr(made, part), np.int32).tobytes() for part in ("train", "val", "test")}
    _add_if_absent(database, Split(dataset=dataset, **config.columns, **parts))
    with database.reading() as session:
        stored = _find_split(session, dataset, config)
    assert stored is not None, "it was added, by us or by another worker"
    return stored


def _find_split(session: Session, dataset: str, config: SplitConfig) -> Split | None:
    return datasets.get_split(session, dataset, **config.columns)


def _indices(row: Split) -> SplitIndices:
    return SplitIndices(*(dataset_service.indices(row, part) for part in ("train", "val", "test")))


def _check_fold(fold: SplitIndices, whole: SplitIndices) -> None:
    """Check that a fold's train and val together are the train split, each image once, and that it has no test.

    So training sees neither the fold's own val images nor those of the split's val.

    Raises:
        DamagedData: They are not: a choice by this fold would rest on a leak.
    """
    images = np.concatenate([fold.train, fold.val])
    if len(fold.test) or not np.array_equal(np.sort(images), np.sort(whole.train)):
        raise DamagedData("A fold holds other images than the train split, each once: it would leak into the choice.")


def _add_if_absent(database: Database, row: Dataset | Split) -> None:
    try:
        with database.writing() as session:
            session.add(row)
    except IntegrityError:
        pass  # another worker has added the same content


def _checked(checkpoint: Checkpoint) -> bytes:
    what = f"Checkpoint {checkpoint.role!r} of run {checkpoint.run_id}"
    return blobs.checked(checkpoint.blob, checkpoint.sha256, what)


def _read_members(session: Session, ensemble: Ensemble) -> list[SavedNetwork]:
    """The saved models of an ensemble's members.

    Raises:
        UnusableMember: A member has been deleted since the ensemble was submitted, or does not match its sha256.
    """
    members = []
    for run_id in ensemble.members:
        model = models.get_saved_model(session, run_id)
        if model is None:
            detail = f"Run {run_id}, a member, has been deleted since the ensemble was submitted."
            raise UnusableMember("member_deleted", detail)
        try:
            graph = blobs.checked(model.onnx, model.sha256, f"The saved model of run {run_id}, a member,")
        except DamagedData as error:
            raise UnusableMember("member_damaged", error.detail) from None
        members.append(SavedNetwork(run_id, graph, model.num_parameters))
    return members


def mlp_config(config: RunConfig, rungs: Rungs | None = None) -> MlpConfig:
    """A network's configuration as a dataclass of `workers.training`."""
    model, training = config.model, config.training
    assert isinstance(model, Mlp)
    assert training is not None, "validated: an mlp has training"
    stopping, schedule, augmentation = training.early_stopping, training.schedule, training.augmentation
    return MlpConfig(
        seed=config.seed,
        hidden_sizes=tuple(model.hidden_sizes),
        activation=model.activation,
        dropout=model.dropout,
        optimizer=OptimizerConfig(**training.optimizer.model_dump()),
        batch_size=training.batch_size,
        epochs=training.epochs,
        evaluate_every=config.evaluate_every,
        keep=training.keep,
        early_stopping=StoppingConfig(**stopping.model_dump()) if stopping else None,
        schedule=CosineConfig(schedule.warmup_steps) if isinstance(schedule, Cosine) else None,
        augmentation=AugmentationConfig(augmentation.copies, augmentation.strength) if augmentation else None,
        rungs=rungs.epochs if rungs else (),
        snapshots=training.snapshots,
    )


def _forest_config(config: RunConfig, model: RandomForest) -> ForestConfig:
    return ForestConfig(config.seed, model.n_estimators, model.max_depth, config.evaluate_every)
