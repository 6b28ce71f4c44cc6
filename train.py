"""Recipe -> run directory: `keras-resnet train` with the same arguments.

python train.py cifar10 --data cifar10.npz --out runs/cifar10
"""

from keras_resnet.cli.main import main

if __name__ == "__main__":
    main(["train"])
