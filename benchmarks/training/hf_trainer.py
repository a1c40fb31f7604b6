"""Baseline: transformers.Trainer, told to log, save and evaluate nothing."""

from time import perf_counter

import torch
from torch.nn.functional import cross_entropy

from benchmarks.training.setting import CLASSES, CLIP_NORM, NETWORK, RANK, RATE, Setting, tell
from benchmarks.training.trainer_data import Photos, Tensors  # declares torchvision's operators

import timm  # isort: skip
from peft import LoraConfig, get_peft_model  # isort: skip
from transformers import Trainer, TrainerCallback, TrainingArguments  # isort: skip


class WithLoss(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": cross_entropy(self.network(images), labels)}


class Marks(TrainerCallback):
    def __init__(self) -> None:
        self.ends_s: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        self.ends_s.append(perf_counter())


def main() -> None:
    setting, marks = Setting.from_argument(), Marks()
    torch.set_num_threads(setting.threads)
    blocks = r"blocks\..*\.(qkv|proj|fc1|fc2)"
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=blocks, modules_to_save=["head"])
    network = timm.create_model(NETWORK, num_classes=CLASSES, img_size=setting.image_size)
    model = WithLoss(get_peft_model(network, config))
    options = {
        "logging_strategy": "no", "save_strategy": "no", "eval_strategy": "no", "report_to": "none",
        "disable_tqdm": True, "logging_nan_inf_filter": False, "remove_unused_columns": False,
        "dataloader_pin_memory": False, "dataloader_persistent_workers": setting.workers > 0,
    }  # fmt: skip
    arguments = TrainingArguments(
        setting.folder, max_steps=setting.steps, per_device_train_batch_size=setting.batch_size, use_cpu=True,
        learning_rate=RATE, lr_scheduler_type="cosine", optim="adamw_torch_fused", max_grad_norm=CLIP_NORM,
        dataloader_num_workers=setting.workers, label_names=["labels"], **options,
    )  # fmt: skip
    data, collate = (
        (Photos(setting), None) if setting.reads_files else (Tensors(setting), lambda batch: batch)
    )
    done = Trainer(model, arguments, data_collator=collate, train_dataset=data, callbacks=[marks]).train()
    trainable = sum(one.numel() for one in model.parameters() if one.requires_grad)
    tell(setting, marks.ends_s, trainable=trainable, loss=done.training_loss)


if __name__ == "__main__":
    main()
