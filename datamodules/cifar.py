"""CIFAR-10 and CIFAR-100."""

from datamodules.public_images import PublicImages


class CIFAR10DataModule(PublicImages):
    """Photographs: 50,000 RGB training images of 32x32 pixels and 10,000 test images, ten classes.

    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    in_channels = 3
    image_size = (32, 32)
    class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    pixel_mean = (0.4914, 0.4822, 0.4465)
    pixel_std = (0.2470, 0.2435, 0.2616)
    torchvision_name = "CIFAR10"
    files = "cifar-10-python.tar.gz, unpacked, as <root>/cifar-10-batches-py"


class CIFAR100DataModule(PublicImages):
    """Photographs: 50,000 RGB training images of 32x32 pixels and 10,000 test images, a hundred classes.

    Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """

    in_channels = 3
    image_size = (32, 32)
    class_names = (
        *("apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle"),
        *("bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle"),
        *("chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur"),
        *("dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard"),
        *("lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain"),
        *("mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck"),
        *("pine_tree", "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road"),
        *("rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider"),
        *("squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television"),
        *("tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf"),
        *("woman", "worm"),
    )
    pixel_mean = (0.5071, 0.4865, 0.4409)
    pixel_std = (0.2673, 0.2564, 0.2762)
    torchvision_name = "CIFAR100"
    files = "cifar-100-python.tar.gz, unpacked, as <root>/cifar-100-python"
