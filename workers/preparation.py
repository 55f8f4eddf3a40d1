"""Makes a training from the rows of claimed runs: configuration, data, and the last committed checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, undefer
from torch import Tensor

from app import blobs
from app.database import Database
from app.datasets import repository as datasets
from app.datasets import service as dataset_service
from app.datasets.catalog import DATASETS
from app.errors import DamagedData
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
        cuda_engine: CudaEngine = "batched",
    ) -> None:
        self._database = database
        self._default_device = default_device
        self._banks = banks or Banks()
        self._cuda_engine: CudaEngine = cuda_engine
        self._datasets: dict[str, dataset_service.Images] = {}
        self._tensors: dict[tuple[str, Scaling], ImageTensors] = {}
        self._splits: dict[tuple[str, SplitConfig], tuple[SplitIndices, SplitData]] = {}

    def read(self, claim: Claim) -> PreparedRun:
        """A run's configuration, data and checkpoints.

        Raises:
            DamagedData: The dataset or a checkpoint does not match its digest.
            ValueError: A checkpoint was written by another version.
            UnusableMember: A member of an ensemble is gone or damaged.
        """
        with self._database.reading() as session:
            run = session.get_one(Run, claim.run_id)
            config = RunConfig.model_validate(run.config)
            rungs = _read_rungs(session, run)
            found = select(Checkpoint).where(Checkpoint.run_id == claim.run_id).options(undefer(Checkpoint.blob))
            checkpoints = {row.role: serialization.from_bytes(_checked(row)) for row in session.scalars(found)}
            members = _read_members(session, config.model) if isinstance(config.model, Ensemble) else []
        split, data = self._load_split(config)
        images = self._images_of(config, split)
        return PreparedRun(claim, config, data, split, images, checkpoints, rungs, members)

    def read_images(self, config: RunConfig) -> SplitImages:
        """The images that a configuration's saved model is evaluated on.

        Raises:
            DamagedData: The dataset does not match its digest.
        """
        split, _ = self._load_split(config)
        return self._images_of(config, split)

    def _images_of(self, config: RunConfig, split: SplitIndices) -> SplitImages:
        images = self._load_images(config.dataset)
        return SplitImages(images.pixels, images.labels, split)

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

    def _load_split(self, config: RunConfig) -> tuple[SplitIndices, SplitData]:
        key = config.dataset, config.split
        if key not in self._splits:
            row = _ensure_split(self._database, *key)
            images = self._load_images(config.dataset)
            split = _indices(row)
            if config.split.fold is not None:
                whole = config.split.model_copy(update={"fold": None})
                _check_fold(split, _indices(_ensure_split(self._database, config.dataset, whole)))
            self._splits[key] = split, SplitData.of(images.pixels, images.labels, split)
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


def _read_rungs(session: Session, run: Run) -> Rungs | None:
    sweep = None if run.sweep_id is None else session.get(Sweep, run.sweep_id)
    if sweep is None or sweep.stopping is None:
        return None
    stopping = SuccessiveHalving.model_validate(sweep.stopping)
    epochs = rung_epochs(run.epochs, rungs=stopping.rungs, reduction=stopping.reduction)
    return Rungs(sweep.id, epochs, stopping.reduction)


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
