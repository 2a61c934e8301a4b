"""STUB."""
class ImageFilesDataModule: pass
