"""Weights that others have published: for whole variants, and for the trunks that training starts from.

A hash here is the one that the publisher gives, however short: an MD5 (torchfcn), or the first eight digits
of the SHA-256, which torchvision's file names carry (docs of `torch.hub.load_state_dict_from_url`,
check_hash). None was made from a copy that happened to arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fcn_edge.download import PATIENCE, Patience, Progress, Remote, cached, fetch
from fcn_edge.errors import unknown
from fcn_edge.folders import cache_folder

Say = Callable[[str], None]


@dataclass(frozen=True)
class Published:
    """A weights file somewhere on the net, and what a user has to know before it is fetched.

    variants: what it is for: as a whole network (`trunk` false), or as the trunk that `train` starts from.
    seen:     what it met of the pictures that figures are usually measured on.
    caffe:    trained on Caffe's pictures, B, G, R less their mean, although under torchvision's names.
    """

    remote: Remote
    variants: tuple[str, ...]
    trunk: bool
    licence: str
    data: str
    source: str
    figures: str = ""
    seen: str = ""
    caffe: bool = False


# torchfcn 1.9.7, torchfcn/models/{fcn32s,fcn16s,fcn8s,vgg}.py: Drive's file ids and
# MD5s. Earlier releases had other files at ids that were taken down (wkentaro/fcn#123); fcn8s-atonce still has its
# first id, of that same kind. Sizes: four bytes a parameter.
TORCHFCN = "https://github.com/wkentaro/pytorch-fcn"
# Its README: the models are the released ones of fcn.berkeleyvision.org, whose README says "unrestricted use".
RELEASED = "unrestricted use (fcn.berkeleyvision.org, BVLC model license); converted by torchfcn (MIT)"
# fcn.berkeleyvision.org, README, "PASCAL VOC models" and its last remark on them.
SBD = "SBD train; trunk ImageNet"
SEEN = "part of VOC's val, with its labels: it intersects SBD train"
VGG16_FCNS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s-atonce")

# torchvision 0.28, torchvision/models/**.py, class *_Weights: url, _file_size
# in MiB, figures. Its README, "Pre-trained Model License": the library's licence is not said to cover them.
TORCHVISION = "https://github.com/pytorch/vision"
NOT_STATED = "not stated (torchvision: may have terms of their own, derived from the training data)"


def _drive(file_id: str, name: str, md5: str, megabytes: float) -> Remote:
    """A file on Google Drive, past the page that asks whether a file too large for its virus scan is wanted.

    That page's form leads here with confirm=t (gdown's download.py reads the form; torch_geometric's LINKXDataset
    uses the address as it stands).
    """
    return Remote(
        f"https://drive.usercontent.google.com/download?id={file_id}&export=download&confirm=t",
        name,
        f"md5:{md5}",
        megabytes,
        page=f"https://drive.google.com/uc?id={file_id}",
    )


def _torchvision(file: str, mebibytes: float) -> Remote:
    digits = file.rpartition("-")[2].removesuffix(".pth")
    return Remote(
        f"https://download.pytorch.org/models/{file}", file, f"sha256:{digits}", round(mebibytes * 2**20 / 1e6, 1)
    )


def _released(variant: str, remote: Remote, figures: str) -> Published:
    return Published(remote, (variant,), False, RELEASED, SBD, TORCHFCN, figures, SEEN)


def _coco(variant: str, remote: Remote, figures: str) -> Published:
    data = "COCO train2017 with the 20 classes of VOC; trunk ImageNet"
    return Published(remote, (variant,), False, NOT_STATED, data, TORCHVISION, figures)


def _imagenet(remote: Remote, *variants: str) -> Published:
    return Published(remote, variants, True, NOT_STATED, "ImageNet", TORCHVISION)


WEIGHTS = {
    # torchfcn's README, "Accuracy", rows "Original": on SBD's reduced VOC 2011 val
    "fcn32s": _released(
        "fcn32s",
        _drive("11k2Q0bvRQgQbT6-jYWeh6nmAsWlSCY3f", "fcn32s_from_caffe.pth", "d3eb467a80e7da0468a20dfcbc13e6c8", 544.6),
        "published: mean IoU 0.636, reduced VOC 2011 val",
    ),
    "fcn16s": _released(
        "fcn16s",
        _drive("1bctu58B6YH9bu6lBBSBB2rUeGlGhYLoP", "fcn16s_from_caffe.pth", "a2d4035f669f09483b39c9a14a0d6670", 539.3),
        "published: mean IoU 0.650, reduced VOC 2011 val",
    ),
    "fcn8s": _released(
        "fcn8s",
        _drive("1ieXWyoG68xqoHJPWdyrDyaIaaWlfmUxI", "fcn8s_from_caffe.pth", "de93e540ec79512f8770033849c8ae89", 538.0),
        "published: mean IoU 0.655, reduced VOC 2011 val",
    ),
    "fcn8s-atonce": _released(
        "fcn8s-atonce",
        _drive(
            "0B9P1L--7Wd2vblE1VUIxV1o2d2M", "fcn8s-atonce_from_caffe.pth", "bfed4437e941fef58932891217fe6464", 538.0
        ),
        "published: mean IoU 0.654, reduced VOC 2011 val; its address may be dead",
    ),
    "fcn-resnet50": _coco(
        "fcn-resnet50",
        _torchvision("fcn_resnet50_coco-1167a1af.pth", 135.009),
        "published: mean IoU 0.605, COCO val2017 with VOC's classes",
    ),
    "fcn-resnet101": _coco(
        "fcn-resnet101",
        _torchvision("fcn_resnet101_coco-7ecb50ca.pth", 207.711),
        "published: mean IoU 0.637, COCO val2017 with VOC's classes",
    ),
    "vgg16-caffe": Published(
        _drive("1adDBTGY3GcEB_47dvcibajyzi872RAs3", "vgg16_from_caffe.pth", "aa75b158f4181e7f6230029eb96c1b13", 553.4),
        (*VGG16_FCNS, "deeplabv1-vgg16-crf"),
        True,
        "not stated; converted by torchfcn (MIT)",
        "ImageNet, by its authors in Caffe",
        TORCHFCN,
        caffe=True,
    ),
    "vgg16": _imagenet(
        _torchvision("vgg16-397923af.pth", 527.796),
        *("fcns-vgg16", "fcn8s-interp", "fcn16s-interp", "fcn32s-interp", *VGG16_FCNS, "deeplabv1-vgg16-crf"),
    ),
    "vgg16-bn": _imagenet(_torchvision("vgg16_bn-6c64b313.pth", 527.866), "segnet", "deconvnet"),
    "alexnet": _imagenet(_torchvision("alexnet-owt-7be5be79.pth", 233.087), "fcn-alexnet-owt"),
    "googlenet": _imagenet(_torchvision("googlenet-1378be20.pth", 49.731), "fcn-googlenet"),
    "resnet50": _imagenet(_torchvision("resnet50-0676ba61.pth", 97.781), "fcn-resnet50"),
    "resnet101": _imagenet(_torchvision("resnet101-63fe2227.pth", 170.511), "fcn-resnet101"),
}


def of_variant(variant: str, trunk: bool = False, table: Mapping[str, Published] = WEIGHTS) -> list[str]:
    """Names of the weights that are published for the variant, or for its trunk, the best choice first."""
    return [name for name, weights in table.items() if weights.trunk == trunk and variant in weights.variants]


def download(
    name: str,
    say: Say,
    progress: Progress = lambda done, total: None,
    cache: Path | None = None,
    patience: Patience = PATIENCE,
    weights: dict[str, Published] = WEIGHTS,
) -> Path:
    """The file of a name in `weights`, from the cache or else from its publisher.

    say: is told what is downloaded, how large it is and under which licence, before anything is.
    Raises UsageError for an unknown name, DownloadError as `fetch` does.
    """
    if name not in weights:
        raise unknown("published weights file", name, weights)
    chosen = weights[name]
    remote, cache = chosen.remote, cache or cache_folder()
    if not cached(remote, cache).is_file():
        host = remote.url.split("/")[2]
        say(f"Downloading {remote.name} from {host}: about {remote.megabytes:.0f} MB. Licence: {chosen.licence}.")
    return fetch(remote, cache, progress, patience)
