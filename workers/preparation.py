"""From a claimed run's row to its training: configuration, data, and the state that was last committed."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, undefer

from app.database import Database
from app.datasets import repository as datasets
from app.datasets import service as dataset_service
from app.datasets.catalog import DATASETS
from app.errors import DamagedData
from app.runs.config import Mlp, RandomForest, RunConfig
from app.runs.config import Split as SplitConfig
from app.runs.config import Training as TrainingConfig
from app.tables import Checkpoint, Dataset, Run, Split
from workers.training import Training
from workers.training.config import ForestConfig, MlpConfig, OptimizerConfig, StoppingConfig
from workers.training.data import SplitData, SplitIndices, load_dataset, split_indices, to_tensors
from workers.training.forest import ForestTraining
from workers.training.loop import MlpTraining


@dataclass(frozen=True)
class Prepared:
    """Everything that training a run takes."""

    config: RunConfig
    data: SplitData
    device: str
    training: Training


def prepare(database: Database, run_id: str, default_device: str) -> Prepared:
    """Make a run's training, restored from its checkpoints if it has any.

    Raises:
        DamagedData: Its dataset or a checkpoint is not what was stored.
    """
    with database.reading() as session:
        run = session.get_one(Run, run_id)
        config = RunConfig.model_validate(run.config)
        found = select(Checkpoint).where(Checkpoint.run_id == run_id).options(undefer(Checkpoint.blob))
        blobs = {checkpoint.role: _checked(checkpoint) for checkpoint in session.scalars(found)}
    data = _load_data(database, config)
    if isinstance(config.model, RandomForest):
        return Prepared(config, data, "cpu", ForestTraining(_forest_config(config, config.model), data))
    assert config.training is not None, "validated: an mlp has training and scaling"
    assert config.scaling is not None
    device = default_device if config.device == "auto" else config.device
    tensors = to_tensors(data, config.scaling, torch.device(device))
    training = MlpTraining(_mlp_config(config, config.model, config.training), tensors)
    if "last" in blobs:
        training.restore(blobs["last"], blobs.get("best"))
    return Prepared(config, data, device, training)


def register_datasets(database: Database) -> None:
    """Store every dataset's images and the notebook's split, so that the API can show them without scikit-learn."""
    for name in DATASETS:
        with database.reading() as session:
            is_missing = datasets.get_dataset(session, name) is None
        if is_missing:
            pixels, labels = (array.tobytes() for array in load_dataset(name))
            digest = sha256(pixels + labels).hexdigest()
            row = Dataset(name=name, num_samples=len(labels), pixels=pixels, labels=labels, sha256=digest)
            _add_if_absent(database, row)
        _ensure_split(database, name, SplitConfig())


def _ensure_split(database: Database, dataset: str, config: SplitConfig) -> Split:
    """The stored split of this configuration, made at its first use."""
    with database.reading() as session:
        stored = _find_split(session, dataset, config)
        if stored is not None:
            return stored
        labels = dataset_service.get_images(session, dataset).labels
    made = split_indices(labels, val_size=config.val_size, test_size=config.test_size, seed=config.seed)
    parts = {part: np.asarray(getattr(made, part), np.int32).tobytes() for part in ("train", "val", "test")}
    _add_if_absent(database, Split(dataset=dataset, **config.model_dump(), **parts))
    with database.reading() as session:
        stored = _find_split(session, dataset, config)
    assert stored is not None, "it was added, by us or by another worker"
    return stored


def _find_split(session: Session, dataset: str, config: SplitConfig) -> Split | None:
    return datasets.get_split(session, dataset, val_size=config.val_size, test_size=config.test_size, seed=config.seed)


def _add_if_absent(database: Database, row: Dataset | Split) -> None:
    try:
        with database.writing() as session:
            session.add(row)
    except IntegrityError:
        pass  # another worker was faster, with the same content


def _load_data(database: Database, config: RunConfig) -> SplitData:
    split = _ensure_split(database, config.dataset, config.split)
    with database.reading() as session:
        images = dataset_service.get_images(session, config.dataset)
    parts = (dataset_service.indices(split, part) for part in ("train", "val", "test"))
    return SplitData.of(images.pixels, images.labels, SplitIndices(*parts))


def _checked(checkpoint: Checkpoint) -> bytes:
    if sha256(checkpoint.blob).hexdigest() != checkpoint.sha256:
        raise DamagedData(f"Checkpoint {checkpoint.role!r} of run {checkpoint.run_id} does not match its sha256.")
    return checkpoint.blob


def _mlp_config(config: RunConfig, model: Mlp, training: TrainingConfig) -> MlpConfig:
    stopping = training.early_stopping
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
    )


def _forest_config(config: RunConfig, model: RandomForest) -> ForestConfig:
    return ForestConfig(config.seed, model.n_estimators, model.max_depth, config.evaluate_every)
