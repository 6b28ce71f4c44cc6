"""A segmentation network that converts in seconds, for the tests that export many times."""

import keras
from keras import layers

from keras_resnet.blocks import basic_block, conv_bn
from keras_resnet.heads.segmentation import segmentation_head
from keras_resnet.preprocessing import normalisation_layer
from keras_resnet.resize import ResizeLike


def small_segmenter(classes=5):
    """Of any size, with every kind of layer that DeepLabV3+ has: dilation, a pooled branch, two joins."""
    image = keras.Input((None, None, 3), name="image")
    fine = conv_bn(normalisation_layer(3)(image), 8, 3, stride=2, name="stem")
    coarse = basic_block(fine, 16, stride=2, name="stage2_block1")
    dilated = conv_bn(coarse, 12, 3, dilation=2, name="aspp_2")
    pooled = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_pool", dtype="float32")(coarse)
    pooled = ResizeLike(name="aspp_5_upsample")([conv_bn(pooled, 12, 1, name="aspp_5"), coarse])
    joined = conv_bn(layers.Concatenate(name="aspp_concat")([dilated, pooled]), 16, 1, name="aspp_project")
    upsampled = ResizeLike(name="decoder_upsample")([layers.Dropout(0.1, name="aspp_dropout")(joined), fine])
    x = conv_bn(layers.Concatenate(name="decoder_concat")([upsampled, fine]), 16, 3, name="decoder_1")
    return keras.Model(image, segmentation_head(x, image, classes, "softmax"), name="small_segmenter")
