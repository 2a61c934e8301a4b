"""STUB."""
import torch
from datamodules.base import BaseDataModule, BatchedDataset
from toolkit.types import ImageBatch, Baseline
from toolkit.keys import sample_keys
class Mem(BatchedDataset):
    def __init__(s,x,y,seed): s.x,s.y,s.seed=x,y,seed
    def __len__(s): return len(s.x)
    def __getitem__(s,b): return ImageBatch(s.x[b.index],s.y[b.index],b.index,sample_keys(s.seed,b.epoch,b.index))
class DigitsDataModule(BaseDataModule):
    """Stub."""
    num_classes=10; class_names=[str(i) for i in range(10)]; in_channels=1; image_size=(8,8); pixel_mean=[0.3]; pixel_std=[0.38]
    def dataset(self, stage):
        if not hasattr(self,"_d"):
            from sklearn.datasets import load_digits
            d=load_digits(); self._d=(torch.tensor(d.images*255/16).round().to(torch.uint8)[:,None],torch.tensor(d.target))
        x,y=self._d; s={"train":slice(0,1257),"val":slice(1257,1437),"test":slice(1437,1797)}[stage]
        return Mem(x[s],y[s],self.seed)
    def baseline(self,stage): return Baseline("majority class",{"acc":0.1})
