"""Codecs: what turns encoded bytes into the tensor a graph takes, and its outputs into answers.

images.py ── probe_image, decode_image: any accepted file → uint8 (H, W, 3) sRGB
  ├ image_facts.py      limits, errors, what a header says
  ├ jpeg.py             marker scanner; libjpeg-turbo, scaled
  ├ png.py              chunk walk; what is worth handing on
  ├ raster_headers.py   BMP, GIF, TIFF, WebP: sizes before any allocation
  ├ exif.py             orientation
  └ colour.py           profiles, alpha, 16 bits → sRGB as a person sees it
fitting.py ── ImageFitter: bytes → tensor of one size
classification.py ── ClassificationCodec: the same; logits → labelled scores
segmentation.py ── SegmentationCodec: the same; maps of logits → masks as large as the picture
"""
