"""How a trained network is marked on held-out data, by its task, and the report that comes of it."""

from typing import NamedTuple

import numpy as np

from app.errors import TrainingDiverged
from models.data.masks import fit_mask
from models.data.pack import Split
from models.evaluate.classification import Evaluation, evaluate
from models.evaluate.crops import crops_of
from models.evaluate.mask_pictures import beside_each_other
from models.evaluate.mask_report_html import render_masks
from models.evaluate.masks import MaskEvaluation, MaskTally
from models.evaluate.picture_marks import PictureEvaluation, PictureTally
from models.evaluate.picture_report_html import render_pictures
from models.evaluate.report import AnyReport, MaskReport, PictureReport
from models.evaluate.report_html import render
from models.evaluate.thumbnail import thumbnail
from models.export.eager import run_eager
from models.manifest import Task
from models.tasks.fitting import ImageFitter
from models.tasks.images import ImageLimits
from models.train.feed import PackSource
from models.train.mask_patches import WholeMasks
from models.train.patches import WholePictures
from models.train.predict import Stopped, predict
from models.train.predict_pictures import enlarged, predict_pictures
from models.train.predict_windows import predict_masks_of, said_by
from models.train.windows import in_windows
from workers.context import Interrupted, JobContext, Json
from workers.kinds.fine_tune_prepare import Prepared


class Marked(NamedTuple):
    """Marks, and of which split."""

    split: Split
    evaluation: Evaluation | MaskEvaluation | PictureEvaluation

    @property
    def told(self) -> str:
        """In a sentence's beginning."""
        marks = self.evaluation
        if isinstance(marks, Evaluation):
            return f"Held-out accuracy {marks.accuracy:.4f} on {marks.samples} pictures ({self.split})"
        if isinstance(marks, PictureEvaluation):
            return (
                f"Held-out PSNR {marks.psnr:.2f} dB, {marks.gain:+.2f} dB over cubic interpolation, on "
                f"{marks.samples} pictures ({self.split})"
            )
        return f"Held-out mean IoU {marks.mean_iou:.4f} on {marks.samples} pictures ({self.split})"

    @property
    def result(self) -> Json:
        """What the job's result says."""
        marks = self.evaluation
        if isinstance(marks, Evaluation):
            return {"accuracy": marks.accuracy, "macro_f1": marks.macro_f1}
        if isinstance(marks, PictureEvaluation):
            return {"psnr": marks.psnr, "ssim": marks.ssim, "cubic_psnr": marks.cubic_psnr}
        return {"mean_iou": marks.mean_iou, "mean_dice": marks.mean_dice, "accuracy": marks.pixel_accuracy}


def mark(context: JobContext, prepared: Prepared) -> Marked:
    """Mark on the test split, or without one on that of validation.

    In full precision, whatever the training's was: what is published is served so.
    Raises Interrupted, TrainingDiverged.
    """
    pack, network = prepared.data.pack, prepared.adapted.network
    split = Split.TEST if pack.of(Split.TEST) else Split.VALIDATION
    names = [item.name for item in pack.of(split)]
    source, stop = prepared.held_out(split), context.stop_asked
    try:
        if isinstance(source, WholePictures):
            pictures = PictureTally(source.tiles.scale)
            for one in predict_pictures(network, source, should_stop=stop):
                pictures.add(one.made, one.wanted, one.small, name=one.name)
            return Marked(split, pictures.evaluation())
        if prepared.spec.task is not Task.SEGMENTATION:
            assert isinstance(source, PackSource)
            logits, targets = predict(network, source, should_stop=stop)
            return Marked(split, evaluate(logits, targets, pack.labels, names))
        tally = MaskTally(len(pack.labels))
        for answered in predict_masks_of(network, source, should_stop=stop):
            tally.add(answered.said, answered.wanted)
        return Marked(split, tally.evaluation(pack.labels, names))
    except Stopped as error:
        raise Interrupted from error
    except ValueError as error:  # logits that are not finite
        raise TrainingDiverged(str(error), hint="Lower learning_rate, or clip_norm.") from error


def page_of(prepared: Prepared, split: Split, report: AnyReport, *, limits: ImageLimits) -> str:
    """The report as a page, with its worst pictures."""
    pack = prepared.data.pack
    items = pack.of(split)
    if isinstance(report, PictureReport):
        shown = {sample.index for sample in (*report.evaluation.worst, *report.evaluation.best)}
        return render_pictures(report, crops=_crops(prepared, split, shown))
    if isinstance(report, MaskReport):
        listed = {sample.index for sample in (*report.evaluation.worst, *report.evaluation.best)}
        return render_masks(report, pictures=_mask_pictures(prepared, split, listed, limits=limits))
    thumbnails = {
        worst.index: thumbnail(pack.read(items[worst.index]), limits=limits)
        for worst in report.evaluation.worst
    }
    return render(report, thumbnails=thumbnails)


def _crops(prepared: Prepared, split: Split, indices: set[int]) -> dict[int, bytes]:
    source = prepared.held_out(split)
    assert isinstance(source, WholePictures)
    found = {}
    for index in sorted(indices):
        large, small = source.pair(index)
        made = enlarged(prepared.adapted.network, small, source)
        found[index] = crops_of(small, made, large, source.tiles.scale)
    return found


def _mask_pictures(
    prepared: Prepared, split: Split, indices: set[int], *, limits: ImageLimits
) -> dict[int, bytes]:
    network, how = prepared.adapted.network, prepared.base.preprocessing
    if prepared.tiles is None:
        fitter = ImageFitter(how, limits)
        return {index: _squashed(prepared, split, index, fitter) for index in sorted(indices)}
    source = prepared.held_out(split)
    assert isinstance(source, WholeMasks)
    found = {}
    for index in sorted(indices):
        pixels, mask = source.picture(index)
        said = np.concatenate([said_by(rows) for rows in in_windows(network, pixels, source)])
        found[index] = beside_each_other(pixels, mask, said)
    return found


def _squashed(prepared: Prepared, split: Split, index: int, fitter: ImageFitter) -> bytes:
    pack, how = prepared.data.pack, prepared.base.preprocessing
    item = pack.of(split)[index]
    pixels = fitter.decode(pack.read(item))
    (maps,) = run_eager(prepared.adapted.network.eval(), how, pixels[None])
    said = maps.argmax(axis=0) if len(maps) > 1 else maps[0] > 0
    wanted = fit_mask(pack.read_mask(item), how.height, how.width)
    return beside_each_other(pixels, wanted, said.astype(np.uint8))
