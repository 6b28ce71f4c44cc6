"""Network -> verified TFLite artifact: `keras-resnet export --formats tflite`, with the same options.

python export/to_tflite.py --model resnet50 --weights imagenet --out out
python export/to_tflite.py --model out/model.keras --formats tflite-int8 --calibration images/ --out out
"""

from keras_resnet.cli.main import main

if __name__ == "__main__":
    main(["export", "--formats", "tflite"])
