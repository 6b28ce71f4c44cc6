"""Network -> verified SavedModel artifact: `keras-resnet export --formats saved_model`, with the same options.

python export/to_savedmodel.py --model resnet50 --weights imagenet --out out
"""

from keras_resnet.cli.main import main

if __name__ == "__main__":
    main(["export", "--formats", "saved_model"])
