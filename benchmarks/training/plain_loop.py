"""Baseline: the loop that one writes by hand with PyTorch and peft, without anything that costs time."""

from time import perf_counter

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from benchmarks.training.setting import CLASSES, CLIP_NORM, NETWORK, RANK, RATE, Setting, tell
from models.build.torchvision_operators import declare_torchvision_operators


def main() -> None:
    """Train; print what it took."""
    setting = Setting.from_argument()
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    declare_torchvision_operators()
    import timm
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=r"blocks\..*\.(qkv|proj|fc1|fc2)",
        modules_to_save=["head"],
    )
    network = timm.create_model(NETWORK, num_classes=CLASSES, img_size=setting.image_size)
    network = get_peft_model(network, config).train()
    trained = [one for one in network.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, setting.steps)
    images, targets = setting.tensors()
    marks_s: list[float] = []
    while len(marks_s) < setting.steps:
        for chosen in torch.randperm(setting.images).split(setting.batch_size)[
            : setting.steps - len(marks_s)
        ]:
            loss = cross_entropy(network(images[chosen]), targets[chosen])
            loss.backward()
            clip_grad_norm_(trained, CLIP_NORM, foreach=True)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            marks_s.append(perf_counter())
    tell(setting, marks_s, trainable=sum(one.numel() for one in trained), loss=loss.item())


if __name__ == "__main__":
    main()
