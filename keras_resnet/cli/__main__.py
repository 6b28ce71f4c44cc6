"""`python -m keras_resnet.cli`: the console command, where the script is not on the path."""

from keras_resnet.cli.main import main

main()
