#!/bin/bash
# Training on several machines with SLURM, by the JAX backend: sbatch examples/train_slurm.sh
# SLURM sends SIGTERM two minutes before the time is over. The run then writes a checkpoint and ends, and the job is
# queued again. It continues there, also after a machine failed.
#SBATCH --job-name=imagenet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
export KERAS_BACKEND=jax
RECIPE=${RECIPE:-imagenet-90-epochs}
DATA=${DATA:-shards}     # as all machines see it
RUN=${RUN:-runs/imagenet} # likewise

if [ -e "$RUN/recipe.toml" ]; then
  arguments=(--resume "$RUN")
else
  arguments=("$RECIPE" --data "$DATA" --out "$RUN")
fi
status=0
srun --kill-on-bad-exit=1 keras-resnet train "${arguments[@]}" || status=$?
if [ "$status" -eq 143 ]; then # ended by SIGTERM, with a checkpoint
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
