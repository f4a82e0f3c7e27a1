#!/usr/bin/env bash
# Makes a CUDA 13 toolkit that is enough to build Muster's feature `cuda`, from packages of the Python index: no driver, no GPU and no
# root are needed. A machine that has a toolkit of its own needs none of this: set CUDA_HOME to it.
#
#   deploy/cuda/toolkit.sh DIR     unpacks into DIR (about 2.5 GB) and prints what to export
#
# Where the result runs, libcuda (of the driver, 580 or newer), libcublas, libcurand, libcudart and libnvrtc of CUDA 13 must be found.
set -euo pipefail
dir=${1:?usage: deploy/cuda/toolkit.sh DIR}
python=${PYTHON:-python3}
release=13.0
packages=(nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cccl nvidia-cuda-crt nvidia-nvvm nvidia-cuda-nvrtc)

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
home=$dir/nvidia/cu13
if [ ! -e "$dir/complete" ]; then
    wheels=$(mktemp -d "$dir/wheels.XXXXXX")
    trap 'rm -rf "$wheels"' EXIT
    # One after the other: two that run at once would each leave half a folder.
    "$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$wheels" \
        "${packages[@]/%/==$release.*}" 'nvidia-cublas==13.*' 'nvidia-curand==10.*'
    for wheel in "$wheels"/*.whl; do
        "$python" -m zipfile -e "$wheel" "$dir"
    done
    chmod +x "$home"/bin/* "$home"/nvvm/bin/* 2>/dev/null || true
    # The packages have libraries under their full names only; linkers look for the short ones.
    for library in "$home"/lib/lib*.so.*; do
        short=${library%%.so.*}.so
        [ -e "$short" ] || ln -s "$(basename "$library")" "$short"
    done
    ln -sfn lib "$home/lib64"
    # The driver's library exists only where there is a driver: to link, its name is enough.
    mkdir -p "$home/lib/stubs"
    echo 'void muster_stub_of_the_driver(void) {}' | ${CC:-cc} -shared -fPIC -x c - -Wl,-soname,libcuda.so.1 -o "$home/lib/stubs/libcuda.so"
    touch "$dir/complete"
fi
cat <<END
export CUDA_HOME=$home CUDA_PATH=$home CUDA_TOOLKIT_ROOT_DIR=$home
export PATH=$home/bin:\$PATH
export CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-90}
export LIBRARY_PATH=$home/lib:$home/lib/stubs LD_LIBRARY_PATH=$home/lib
export RUSTFLAGS="-L native=$home/lib -L native=$home/lib/stubs -C link-arg=-Wl,--unresolved-symbols=ignore-in-shared-libs -C link-arg=-Wl,--unresolved-symbols=ignore-all"
END
