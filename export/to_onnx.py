"""Network -> verified ONNX artifact: `keras-resnet export --formats onnx`, with the same options.

python export/to_onnx.py --model resnet50 --weights imagenet --out out
"""

from keras_resnet.cli.main import main

if __name__ == "__main__":
    main(["export", "--formats", "onnx"])
