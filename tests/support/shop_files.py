"""Catalogues in the forms in which shops have them, one a function: files, and what must become of their rows."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "shop_files"


@dataclass(frozen=True)
class ShopFile:
    """One form of catalogue.

    Attributes:
        make: writes it into a folder, and returns what `coldstart import` is given.
        rows, items, joined, rejected: counts that must come out.
        fields: our field -> its column or columns, as they must be recognised.
        first: values of one item that must come out, `item_id` among them.
    """

    name: str
    make: Callable[[Path], Path]
    rows: int
    items: int
    fields: Mapping[str, Any]
    first: Mapping[str, Any]
    joined: int = 0
    rejected: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
    pictures: int | None = None


def photos(folder: Path, count: int = 3) -> None:
    """Photos `photos/1.jpg`, …."""
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        Image.new("RGB", (16, 16), (number * 60 % 256, 90, 120)).save(folder / "photos" / f"{number}.jpg")


def jpeg(number: int) -> bytes:
    """Bytes of a photo."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (number * 40 % 256, 20, 200)).save(stream, "JPEG")
    return stream.getvalue()


def _table(rows: Iterable[Sequence[Any]], delimiter: str = ",") -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    return stream.getvalue()


def _write(name: str, text: str | bytes, encoding: str = "utf-8", pictures: int = 3) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        photos(folder, pictures)
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return make


def _copy(fixture: str, name: str) -> Callable[[Path], Path]:
    return _write(name, (FIXTURES / fixture).read_bytes())


def _excel(folder: Path) -> Path:
    photos(folder)
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    rows = [
        ("Artikelnr", "Bezeichnung", "Preis (EUR)", "Bilddatei", "Lagerort"),
        ("00017", "Tasse blau", 12.9, "photos/1.jpg", "A1"),
        ("00018", "Schale rot", 1299, "photos/2.jpg", None),
    ]
    for row in rows:
        sheet.append(row)
    book.save(folder / "artikel.xlsx")
    return folder / "artikel.xlsx"


_ODS = """<?xml version="1.0" encoding="UTF-8"?><office:document-content
 xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
 xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" office:version="1.2"><office:body><office:spreadsheet>
 <table:table table:name="Produits">{rows}</table:table></office:spreadsheet></office:body></office:document-content>"""


def _ods(folder: Path) -> Path:
    photos(folder)
    rows = [("Référence", "Désignation", "Prix TTC", "Catégorie"), ("0007", "Tasse bleue", "12,90 €", "Cuisine")]
    rows.append(("0008", "Bol rouge", "3,50 €", "Cuisine"))
    cells = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>' for cell in row
        )
        + "</table:table-row>"
        for row in rows
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    with zipfile.ZipFile(folder / "produits.ods", "w") as archive:
        archive.writestr("mimetype", kind)
        archive.writestr("content.xml", _ODS.format(rows=cells))
        archive.writestr(
            "META-INF/manifest.xml",
            '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
            f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/></manifest:manifest>',
        )
    return folder / "produits.ods"


def _parquet(folder: Path) -> Path:
    pictures = [{"bytes": jpeg(number), "path": f"{number}.jpg"} for number in range(4)]
    table = pa.table({"image": pictures, "label": pa.array([0, 1, 1, 0], pa.int64())})
    features = {
        "image": {"_type": "Image"},
        "label": {"names": ["mug", "bowl"], "_type": "ClassLabel"},
    }
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    folder.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), folder / "train.parquet")
    return folder / "train.parquet"


def _shards(folder: Path) -> Path:
    (folder / "data").mkdir()
    for number, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001")):
        pictures = [{"bytes": jpeg(number * 10 + place), "path": None} for place in range(2)]
        pq.write_table(
            pa.table({"image": pictures, "text": [f"a photo of thing {number} {place}" for place in range(2)]}),
            folder / "data" / f"{name}.parquet",
        )
    return folder


def _saved_to_disk(folder: Path) -> Path:
    table = pa.table(
        {
            "id": [f"s{number}" for number in range(3)],
            "image": [{"bytes": jpeg(number), "path": None} for number in range(3)],
            "caption": [f"thing {number}" for number in range(3)],
        }
    )
    arrow = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(arrow, "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}
    (folder / "state.json").write_text(json.dumps(state), "utf-8")
    (folder / "dataset_info.json").write_text("{}", "utf-8")
    return folder


def _imagefolder(folder: Path) -> Path:
    for split, numbers in (("train", (1, 2)), ("test", (3,))):
        (folder / split).mkdir()
        rows = [("file_name", "text")]
        for number in numbers:
            (folder / split / f"{number}.jpg").write_bytes(jpeg(number))
            rows.append((f"{number}.jpg", f"a photo of thing {number}"))
        (folder / split / "metadata.csv").write_text(_table(rows), "utf-8")
    return folder


def _folder_of_media(folder: Path) -> Path:
    photos(folder)
    return folder / "photos"


def _folder_with_table(folder: Path) -> Path:
    photos(folder)
    (folder / "products.csv").write_text(
        _table([("sku", "name", "image"), ("1", "Blue mug", "photos/1.jpg"), ("2", "Red bowl", "photos/2.jpg")]),
        "utf-8",
    )
    return folder


SHOP_FILES = [
    ShopFile(
        "semicolons and decimal commas",
        _write("shop.csv", "sku;name;colour;price\r\n0012;Blue mug;blue;12,90\r\n0013;Red bowl;red;1.299,00\r\n"),
        2,
        2,
        {"item_id": "sku", "title": "name", "price": "price"},
        {"item_id": "0013", "title": "Red bowl", "price": 1299.0},
        attributes={"colour": "red"},
    ),
    ShopFile(
        "Windows-1252",
        _write(
            "artikel.csv",
            "Artikelnummer;Titel;Beschreibung;Preis\r\nÄ1;Große Schüssel;Für Müsli – schön;9,95 €\r\n"
            "Ä2;Löffel;Größe 2;1,20 €\r\n",
            "cp1252",
        ),
        2,
        2,
        {"item_id": "Artikelnummer", "title": "Titel", "description": "Beschreibung", "price": "Preis"},
        {"item_id": "Ä1", "title": "Große Schüssel", "description": "Für Müsli – schön", "price": 9.95},
        attributes={"currency": "EUR"},
    ),
    ShopFile(
        "UTF-16 with tabs",
        _write(
            "export.txt",
            "Kod produktu\tNazwa\tCena brutto\tZdjęcie\r\n01\tKubek żółty\t12,90 zł\tphotos/1.jpg\r\n"
            "02\tMiska\t3,50 zł\tphotos/2.jpg\r\n",
            "utf-16",
        ),
        2,
        2,
        {"item_id": "Kod produktu", "title": "Nazwa", "price": "Cena brutto", "image": "Zdjęcie"},
        {"item_id": "01", "title": "Kubek żółty", "price": 12.9},
        attributes={"currency": "PLN"},
        pictures=1,
    ),
    ShopFile(
        "Shopify export",
        _copy("shopify.csv", "products_export.csv"),
        4,
        2,
        {
            "item_id": "Handle",
            "title": "Title",
            "description": "Body (HTML)",
            "creator": "Vendor",
            "category": "Product Category",
            "tags": "Tags",
            "price": "Variant Price",
            "images": ["Image Src", "Variant Image"],
        },
        {"item_id": "blue-mug", "title": "Blue mug", "category": "Mugs", "price": 12.9, "tags": ["kitchen", "blue"]},
        joined=2,
        attributes={
            "Size": ["S", "L"],
            "category_path": "Home & Garden > Kitchen > Mugs",
            "Variant SKU": ["M-S", "M-M", "M-L"],
        },
        pictures=2,
    ),
    ShopFile(
        "WooCommerce export",
        _copy("woocommerce.csv", "wc-product-export.csv"),
        2,
        2,
        {
            "item_id": "ID",
            "title": "Name",
            "description": "Description",
            "category": "Categories",
            "tags": "Tags",
            "price": "Regular price",
            "image": "Images",
        },
        {
            "item_id": "101",
            "title": "Hoodie",
            "description": "Warm hoodie & soft",
            "category": "Hoodies",
            "price": 45.0,
        },
        attributes={"Colour": "Blue", "category_path": ["Clothing > Hoodies", "Clothing > Sale"], "SKU": "W-1"},
        pictures=2,
    ),
    ShopFile(
        "Magento export",
        _copy("magento.csv", "export_catalog_product.csv"),
        2,
        2,
        {
            "item_id": "sku",
            "title": "name",
            "description": "description",
            "category": "categories",
            "price": "price",
            "created_at": "created_at",
            "images": ["base_image", "additional_images"],
        },
        {"item_id": "24-MB01", "title": "Duffle Bag", "category": "Bags", "price": 34.0, "description": "A bag"},
        pictures=3,
    ),
    ShopFile(
        "PrestaShop export",
        _copy("prestashop.csv", "products.csv"),
        2,
        2,
        {
            "item_id": "ID",
            "title": "Name *",
            "category": "Categories (x,y,z...)",
            "price": "Price tax included",
            "creator": "Manufacturer",
            "description": "Description",
            "image": "Image URLs (x,y,z...)",
        },
        {"item_id": "2", "title": "Bol", "price": 1299.0, "description": "Un bol"},
        pictures=1,
    ),
    ShopFile(
        "Amazon flat file",
        _copy("amazon.txt", "flat_file.txt"),
        2,
        2,
        {
            "item_id": "item_sku",
            "title": "item_name",
            "creator": "brand_name",
            "price": "standard_price",
            "images": ["main_image_url", "other_image_url1"],
        },
        {"item_id": "AZ-001", "title": "Blue mug", "creator": "Acme", "price": 12.9},
        pictures=2,
    ),
    ShopFile(
        "Etsy export",
        _copy("etsy.csv", "EtsyListingsDownload.csv"),
        2,
        2,
        {
            "item_id": "SKU",
            "title": "TITLE",
            "description": "DESCRIPTION",
            "price": "PRICE",
            "tags": "TAGS",
            "attributes.currency": "CURRENCY_CODE",
            "images": ["IMAGE1", "IMAGE2", "IMAGE3"],
        },
        {"item_id": "E-1", "title": "Hand-made mug", "description": 'A mug, "made" by hand', "price": 24.0},
        attributes={"currency": "USD", "Colour": ["Blue", "Red"]},
        pictures=2,
    ),
    ShopFile(
        "Google Merchant feed, RSS",
        _copy("merchant_rss.xml", "feed.xml"),
        2,
        2,
        {
            "item_id": "id",
            "title": "title",
            "description": "description",
            "category": "product_type",
            "creator": "brand",
            "price": "price",
            "images": ["image_link", "additional_image_link"],
        },
        {"item_id": "0012", "title": "Mug & saucer", "category": "Mugs", "price": 19.99},
        attributes={"currency": "EUR", "gtin": "0012345678905"},
        pictures=3,
    ),
    ShopFile(
        "Google Merchant feed, Atom",
        _copy("merchant_atom.xml", "atom.xml"),
        2,
        2,
        {"item_id": "id", "title": "title", "description": "summary", "price": "price", "image": "image_link"},
        {"item_id": "a2", "title": "Bowl", "price": 8.0},
        attributes={"currency": "GBP"},
        pictures=1,
    ),
    ShopFile(
        "Google Merchant feed, TSV",
        _write(
            "feed.tsv",
            "id\ttitle\timage_link\tprice\tsale_price\tgtin\tproduct_type\n"
            "0012\tMug &amp; saucer\tphotos/1.jpg\t19,99 EUR\t15,99 EUR\t0012345678905\tHome > Kitchen > Mugs\n"
            "0013\tBowl\tphotos/2.jpg\t24,50 EUR\t\t0012345678912\tHome > Kitchen\n",
        ),
        2,
        2,
        {"item_id": "id", "title": "title", "image": "image_link", "price": "price", "category": "product_type"},
        {"item_id": "0012", "title": "Mug & saucer", "price": 19.99, "category": "Mugs"},
        attributes={"sale_price": "15,99 EUR", "gtin": "0012345678905"},
        pictures=1,
    ),
    ShopFile(
        "Excel with leading zeros",
        _excel,
        2,
        2,
        {"item_id": "Artikelnr", "title": "Bezeichnung", "price": "Preis (EUR)", "image": "Bilddatei"},
        {"item_id": "00017", "title": "Tasse blau", "price": 12.9},
        attributes={"currency": "EUR", "Lagerort": "A1"},
        pictures=1,
    ),
    ShopFile(
        "OpenDocument, French",
        _ods,
        2,
        2,
        {"item_id": "Référence", "title": "Désignation", "price": "Prix TTC", "category": "Catégorie"},
        {"item_id": "0007", "title": "Tasse bleue", "price": 12.9, "category": "Cuisine"},
        attributes={"currency": "EUR"},
    ),
    ShopFile(
        "Shopify API",
        _copy("shopify_api.json", "products.json"),
        2,
        2,
        {
            "item_id": "id",
            "title": "title",
            "description": "body_html",
            "creator": "vendor",
            "category": "product_type",
            "tags": "tags",
            "created_at": "created_at",
            "price": "variants.price",
            "image": "images.src",
        },
        {"item_id": "632910392", "title": "IPod Nano", "description": "It's the small one.", "price": 199.0},
        attributes={"Color": ["Pink", "Red"], "variants.sku": ["IPOD-P", "IPOD-R"]},
        pictures=2,
    ),
    ShopFile(
        "nested JSON lines",
        _copy("nested.jsonl", "products.jsonl"),
        2,
        2,
        {
            "item_id": "productId",
            "title": "name.en",
            "price": "price.amount",
            "creator": "brand.name",
            "category": "category.name",
            "attributes.currency": "price.currency",
            "image": "images.url",
        },
        {"item_id": "n1", "title": "Blue mug", "price": 12.9, "category": "Mugs", "creator": "Acme"},
        attributes={"currency": "EUR"},
        pictures=2,
    ),
    ShopFile(
        "Hugging Face Parquet",
        _parquet,
        4,
        4,
        {"image": "image", "category": "label"},
        {"category": "mug"},
        pictures=1,
    ),
    ShopFile(
        "Hugging Face shards",
        _shards,
        6,
        6,
        {"image": "image", "description": "text"},
        {"description": "a photo of thing 2 1"},
        attributes={"split": "test"},
        pictures=1,
    ),
    ShopFile(
        "Hugging Face save_to_disk",
        _saved_to_disk,
        3,
        3,
        {"item_id": "id", "image": "image", "title": "caption"},
        {"item_id": "s1", "title": "thing 1"},
        pictures=1,
    ),
    ShopFile(
        "Hugging Face imagefolder",
        _imagefolder,
        3,
        3,
        {"image": "file_name", "description": "text"},
        {"description": "a photo of thing 3"},
        attributes={"split": "test"},
        pictures=1,
    ),
    ShopFile("folder of media", _folder_of_media, 3, 3, {}, {"item_id": "2.jpg"}, pictures=1),
    ShopFile(
        "folder with a table",
        _folder_with_table,
        2,
        2,
        {"item_id": "sku", "title": "name", "image": "image"},
        {"item_id": "2", "title": "Red bowl"},
        pictures=1,
    ),
    ShopFile(
        "Japanese headers",
        _write(
            "shohin.csv",
            '商品コード,商品名,販売価格,商品説明,画像URL,カテゴリ\n0001,青いマグ,"1,200円",陶器,photos/1.jpg,台所\n'
            "0002,赤い皿,800円,皿,photos/2.jpg,台所\n",
            "shift_jis",
        ),
        2,
        2,
        {
            "item_id": "商品コード",
            "title": "商品名",
            "price": "販売価格",
            "description": "商品説明",
            "image": "画像URL",
            "category": "カテゴリ",
        },
        {"item_id": "0001", "title": "青いマグ", "price": 1200.0},
        pictures=1,
    ),
    ShopFile(
        "French headers, dates and several photos",
        _write(
            "produits.csv",
            "Référence;Titre;Prix TTC;Marque;Date de création;Images produit\n"
            "F1;Tasse;12,90 €;Acme;25/01/2024;photos/1.jpg|photos/2.jpg\n"
            'F2;Bol;sur demande;Acme;02/02/2024;"[""photos/3.jpg""]"\n',
        ),
        2,
        2,
        {
            "item_id": "Référence",
            "title": "Titre",
            "price": "Prix TTC",
            "creator": "Marque",
            "created_at": "Date de création",
            "image": "Images produit",
        },
        {"item_id": "F2", "title": "Bol", "price": None},
        attributes={"Prix TTC": "sur demande"},
        pictures=1,
    ),
    ShopFile(
        "rows without an id",
        _write(
            "list.csv",
            "name,url,price\nBlue mug,https://shop.example/mug,12.90\nRed bowl,https://shop.example/bowl,3\n"
            "Red bowl,https://shop.example/bowl,3\n",
        ),
        3,
        2,
        {"title": "name", "price": "price"},
        {"title": "Blue mug", "price": 12.9},
        joined=1,
    ),
    ShopFile(
        "rows at fault",
        _write("faults.csv", "sku,name,price\n1,Mug,3\n2,Bowl,4,5,6\n,Cup,2\n4,,1\n5,Pot,9\n"),
        5,
        2,
        {"item_id": "sku", "title": "name", "price": "price"},
        {"item_id": "5", "title": "Pot"},
        rejected=3,
    ),
    ShopFile(
        "pictures in one cell",
        _write(
            "items.csv",
            "item_id,title,images\npipe,Mug,photos/1.jpg|photos/2.jpg\n"
            'comma,Bowl,"photos/1.jpg,photos/2.jpg"\njson,Cup,"[""photos/1.jpg"", ""photos/2.jpg""]"\n',
        ),
        3,
        3,
        {"item_id": "item_id", "title": "title", "images": "images"},
        {"item_id": "comma", "title": "Bowl"},
        pictures=2,
    ),
]
"""Each form once."""
