"""Recipe -> run directory: `keras-resnet train` with the same arguments.

python train.py recipes/cifar10.toml --data cifar10.npz --out runs/cifar10
"""

from keras_resnet.cli.main import main

if __name__ == "__main__":
    main(["train"])
