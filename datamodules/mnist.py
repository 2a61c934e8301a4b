"""MNIST and Fashion-MNIST."""

from datamodules.public_images import PublicImages

FILES = "the files {train,t10k}-{images-idx3,labels-idx1}-ubyte, unpacked, in "


class MNISTDataModule(PublicImages):
    """Handwritten digits: 60,000 grey training images of 28x28 pixels and 10,000 test images, ten classes.

    LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", Proceedings of the
    IEEE, 1998.
    """

    in_channels = 1
    image_size = (28, 28)
    class_names = tuple("0123456789")
    pixel_mean = (0.1307,)
    pixel_std = (0.3081,)
    torchvision_name = "MNIST"
    files = f"{FILES}<root>/MNIST/raw"


class FashionMNISTDataModule(PublicImages):
    """Articles of clothing in the format of MNIST: 60,000 grey training images and 10,000 test images, ten classes.

    Xiao, Rasul and Vollgraf, "Fashion-MNIST", arXiv:1708.07747. Debian's package ``dataset-fashion-mnist`` has them.
    """

    in_channels = 1
    image_size = (28, 28)
    class_names = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    pixel_mean = (0.2860,)
    pixel_std = (0.3530,)
    torchvision_name = "FashionMNIST"
    files = f"{FILES}<root>/FashionMNIST/raw"
