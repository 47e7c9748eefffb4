"""Writes the small seed files of fuzz/corpus with NumPy, Pillow and PyArrow, and cuts of real data sets.

Usage: python3 fuzz/seeds.py [DATA]   (DATA: a folder with digits/, cifar10/, dsprites/; needs numpy, pillow, pyarrow, safetensors)
"""
import gzip, io, json, os, struct, sys, tarfile, zipfile
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, PngImagePlugin
from safetensors.numpy import save as safetensors

here = os.path.dirname(os.path.abspath(__file__))
data = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "..", "..", "shared", "data")
rng = np.random.default_rng(0)


def put(target, name, content):
    folder = os.path.join(here, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(content)
    return content


def saved(save, *args, **kwargs):
    to = io.BytesIO()
    save(to, *args, **kwargs)
    return to.getvalue()


def real(name):
    with open(os.path.join(data, name), "rb") as f:
        raw = f.read()
    return gzip.decompress(raw) if name.endswith(".gz") else raw


# Real pixels: eight digits (8 x 8, UCI optdigits), values 0 to 16.
digits = np.frombuffer(real("digits/digits-images-idx3-ubyte.gz")[16:], np.uint8).reshape(-1, 8, 8)[:8]
labels = list(real("digits/digits-labels-idx1-ubyte.gz")[8:16])
grey = (digits * 15).astype(np.uint8)
rgb = np.stack([grey, grey // 2, 255 - grey], -1)


def encoded(array, kind, **options):
    return saved(lambda to: Image.fromarray(array).save(to, kind, **options))


# idx
pixels = struct.pack(">4B3I", 0, 0, 8, 3, 2, 8, 8) + digits[:2].tobytes()
put("idx", "digits.idx", pixels)
put("idx", "digits.idx.gz", gzip.compress(pixels, mtime=0))
put("idx", "labels.gz", real("digits/digits-labels-idx1-ubyte.gz")[:8] and gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 8) + bytes(labels), mtime=0))
put("idx", "shorts.idx", struct.pack(">4B2I6h", 0, 0, 0x0B, 2, 2, 3, 1, -2, 3, -4, 5, -6))

# cifar
batch = real("cifar10/data_batch_1.bin.gz")[: 2 * 3073]
put("cifar", "one.bin", batch[:3073])
put("cifar", "two.bin.gz", gzip.compress(batch, mtime=0))

# npy
for name, array in {
    "u1.npy": digits[:2],
    "f4.npy": rng.normal(size=(3, 4)).astype("<f4"),
    "big.npy": rng.normal(size=(3, 4)).astype(">f8"),
    "fortran.npy": np.asfortranarray(np.arange(12, dtype="<i4").reshape(3, 4)),
    "bool.npy": np.array([True, False, True]),
    "u8.npy": np.array([1, 2, 3], "<u8"),
    "scalar.npy": np.array(2.5),
}.items():
    put("npy", name, saved(np.save, array))

# npz and dsprites
put("npz", "adm.npz", saved(np.savez, rgb[:2], np.array(labels[:2])))
put("npz", "adm_deflated.npz", saved(np.savez_compressed, rgb[:2], np.array(labels[:2])))
put("npz", "stats.npz", saved(np.savez, mu=rng.normal(size=3), sigma=np.eye(3)))
own = np.random.default_rng(1)
moments = lambda d: (own.normal(size=d), np.cov(own.normal(size=(d, 9))))
put("reference", "edm.npz", saved(np.savez, **dict(zip(["mu", "sigma"], moments(3)))))
pool, spatial = moments(3), moments(2)
put("reference", "adm.npz", saved(np.savez_compressed, rgb[:2], np.array(labels[:2]), mu=pool[0], sigma=pool[1].astype("<f4"), mu_s=spatial[0], sigma_s=spatial[1]))
full = np.load(os.path.join(data, "dsprites/dsprites_grid_46080.npz"))
few = [0, 20000, 40000]
part = dict(
    imgs=full["imgs"][few][:, 16:48:4, 16:48:4],
    latents_values=full["latents_values"][few],
    latents_classes=full["latents_classes"][few],
)
put("dsprites", "stored.npz", saved(np.savez, **part))
put("dsprites", "deflated.npz", saved(np.savez_compressed, **part))

# picture
put("picture", "grey.png", encoded(grey[0], "PNG"))
put("picture", "rgb.png", encoded(rgb[1], "PNG"))
put("picture", "rgba.png", encoded(np.concatenate([rgb[2], grey[2][..., None]], -1), "PNG"))
put("picture", "deep.png", encoded((digits[3].astype(np.uint16) * 4000), "PNG"))
put("picture", "palette.png", saved(lambda to: Image.fromarray(rgb[4]).quantize(7).save(to, "PNG")))
put("picture", "bits.png", saved(lambda to: Image.fromarray(grey[5] > 100).save(to, "PNG")))
put("picture", "grey.jpg", encoded(grey[6], "JPEG"))
put("picture", "rgb.jpg", encoded(rgb[0], "JPEG", quality=80))
put("picture", "progressive.jpg", encoded(rgb[0], "JPEG", quality=80, progressive=True))
put("picture", "cmyk.jpg", saved(lambda to: Image.fromarray(rgb[1]).convert("CMYK").save(to, "JPEG")))
put("picture", "lossy.webp", encoded(rgb[2], "WEBP", quality=50))
put("picture", "lossless.webp", encoded(rgb[3], "WEBP", lossless=True))

# metadata
put("metadata_csv", "labels.csv", b'file_name,label,text,x\r\na.png,cat,"a ""cat"", here",0.5\r\nb/c.png,ant,,1\r\n')
put("metadata_csv", "plain.csv", b"file_name,label\na.png,3\nb.png,4\n")
put("metadata_jsonl", "mixed.jsonl", b'{"file_name": "a.png", "label": 3, "caption": "x", "lit": true, "box": [1, 2]}\n{"label": 7, "file_name": "b.png", "lit": false}\n')

# EDM zip
pngs = [encoded(a, "PNG") for a in grey[:3]]
for name, method in {"stored.zip": zipfile.ZIP_STORED, "deflated.zip": zipfile.ZIP_DEFLATED}.items():
    to = io.BytesIO()
    with zipfile.ZipFile(to, "w", method) as z:
        for i, png in enumerate(pngs):
            z.writestr(zipfile.ZipInfo(f"00000/img{i:08d}.png"), png, compress_type=method)
        names = [[f"00000/img{i:08d}.png", labels[i]] for i in range(3)]
        z.writestr(zipfile.ZipInfo("dataset.json"), json.dumps({"labels": names}), compress_type=method)
    put("edm_zip", name, to.getvalue())

# shards
for name, form in {"gnu.tar": tarfile.GNU_FORMAT, "pax.tar": tarfile.PAX_FORMAT}.items():
    to = io.BytesIO()
    with tarfile.open(fileobj=to, mode="w", format=form, ) as t:
        for i in range(2):
            key = "d" * 120 + "/x" if i else "000000"
            fields = {"png": pngs[i], "cls": b"%d" % labels[i], "json": json.dumps({"size": i + 0.5}).encode(), "txt": b"digit"}
            for field, content in fields.items():
                info = tarfile.TarInfo(f"{key}.{field}")
                info.size = len(content)
                t.addfile(info, io.BytesIO(content))
    # The padding to 10 KiB at the end says nothing: the two zero blocks that end the archive stay.
    raw = to.getvalue().rstrip(b"\0")
    put("shards", name, raw + bytes(-len(raw) % 512 + 1024))

# Parquet
table = pa.table({
    "image": [{"bytes": png, "path": f"{i}.png"} for i, png in enumerate(pngs)],
    "label": pa.array(labels[:3], pa.int64()),
    "text": ["zero", None, "two"],
    "x": [0.5, 1.5, 2.5],
})
notes = {"info": {"features": {"label": {"names": [str(i) for i in range(10)], "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}
table = table.replace_schema_metadata({"huggingface": json.dumps(notes)})
for codec in ["snappy", "gzip", "zstd", "none"]:
    put("hf_parquet", f"{codec}.parquet", saved(lambda to: pq.write_table(table, to, compression=codec, write_statistics=False)))
v2 = saved(lambda to: pq.write_table(table, to, data_page_version="2.0", use_dictionary=False, write_statistics=False, column_encoding={"label": "DELTA_BINARY_PACKED"}))
put("hf_parquet", "delta_v2.parquet", v2)

# sniff: one of each
for target, name in [("idx", "digits.idx.gz"), ("cifar", "one.bin"), ("npy", "u1.npy"), ("npz", "stats.npz"), ("picture", "grey.png"), ("edm_zip", "stored.zip"), ("shards", "gnu.tar"), ("hf_parquet", "none.parquet")]:
    with open(os.path.join(here, "corpus", target, name), "rb") as f:
        put("sniff", f"{target}_{name}", f.read())

# What Pentimento writes itself, as the packages that others read and write it with do.
weights = {
    "a.weight": rng.normal(size=(2, 3)).astype("<f4"),
    "a.bias": rng.normal(size=2).astype("<f2"),
    "steps": np.array([7, -1], "<i8"),
    "mask": np.array([True, False, True]),
    "scalar": np.array(2.5, "<f8"),
}
put("safetensors", "weights.safetensors", safetensors(weights, {"format": "pt", "format_version": "1", "recipe": "{}"}))
put("safetensors", "empty.safetensors", safetensors({}))

lines = [{"images": 200 * i, "kind": "train", "loss": 1 / i, "note": None, "ok": True} for i in (1, 2, 3)]
lines = "".join(json.dumps(line) + "\n" for line in lines).encode()
put("jsonl", "stats.jsonl", lines)
put("jsonl", "torn.jsonl", lines[:-9])

with open(os.path.join(here, "..", "fixtures", "tensorboard", "small.tfevents"), "rb") as f:
    events = f.read()
put("events", "small.tfevents", events)
put("events", "torn.tfevents", events[:-5])

plan = json.dumps({"format_version": 1, "plan": {"seed": 0, "steps": 20}})
latin, packed, wide = (PngImagePlugin.PngInfo() for _ in range(3))
latin.add_text("parameters", "disc\nSteps: 20, Sampler: euler, CFG scale: 1.5, Seed: 0")
latin.add_text("pentimento", plan)
packed.add_text("pentimento", plan, zip=True)
wide.add_itxt("pentimento", plan, lang="en", tkey="plan")
wide.add_itxt("caption", "ein Kreis \u25cb", zip=True)
for name, texts in {"latin.png": latin, "packed.png": packed, "wide.png": wide}.items():
    put("png_text", name, encoded(grey[0], "PNG", pnginfo=texts))

features = rng.normal(size=(3, 2)).astype("<f4")
columns = {
    "index": pa.array([0, 1, 5], pa.int64()),
    "split": ["train", "val", "test"],
    "label": pa.array(labels[:3], pa.int64()),
    "x": [0.5, 1.5, 2.5],
    "feature": pa.array(list(features), pa.list_(pa.float32())),
}
# Without and with the columns that came with version 2.
beside = {"pixels": rng.uniform(-1, 1, (3, 4)).astype("<f4"), "random": rng.normal(size=(3, 2)).astype("<f4")}
whole = pa.table(columns | {k: pa.array(list(v), pa.list_(pa.float32())) for k, v in beside.items()})
whole = whole.replace_schema_metadata({"format_version": "2", "provenance.block": "mid"})
ours = pa.table(columns).replace_schema_metadata({"format_version": "1", "provenance.block": "mid"})
theirs = pa.table({"f0": features[:, 0], "f1": features[:, 1], "label": pa.array(labels[:3], pa.int32()), "big": [True, False, True]})
put("features_parquet", "zstd.parquet", saved(lambda to: pq.write_table(ours, to, compression="zstd", write_statistics=False)))
put("features_parquet", "plain.parquet", saved(lambda to: pq.write_table(ours, to, compression="none", use_dictionary=False, write_statistics=False)))
put("features_parquet", "baselines.parquet", saved(lambda to: pq.write_table(whole, to, compression="zstd", write_statistics=False)))
put("features_parquet", "columns.parquet", saved(lambda to: pq.write_table(theirs, to, write_statistics=False)))
about = json.dumps({"format_version": 1, "split": ["test", "train", "val"], "provenance": {"block": "mid"}})
arrays = {
    "feature": features,
    "index": np.array([0, 1, 5]),
    "label": np.array(labels[:3]),
    "split": np.array([1, 2, 0], np.uint8),
    "factor.x": np.array([0.5, 1.5, 2.5]),
    "about": np.frombuffer(about.encode(), np.uint8),
}
put("features_npz", "stored.npz", saved(np.savez, **arrays))
put("features_npz", "deflated.npz", saved(np.savez_compressed, **arrays))
about = np.frombuffer(about.replace('version": 1', 'version": 2').encode(), np.uint8)
put("features_npz", "baselines.npz", saved(np.savez, **{**arrays, **beside, "about": about}))

# graph: the heads of Cora's tables
edges = b"".join(real("cora/edges.tsv.gz").splitlines(True)[:20])
put("graph", "edges.tsv", edges)
put("graph", "edges.tsv.gz", gzip.compress(edges, mtime=0))
put("graph", "nodes.tsv", b"".join(real("cora/nodes.tsv.gz").splitlines(True)[:20]))
