"""Recognition of columns by names in the field's languages and by values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coldstart.errors import ColdstartError
from coldstart.ingest.catalogue import plan_table
from coldstart.ingest.dates import date_format_of, parse_date
from coldstart.ingest.manifest import Manifest
from coldstart.ingest.nested import flatten
from coldstart.ingest.recognise import recognise
from coldstart.ingest.recognition import Recognition
from coldstart.ingest.shop_cells import category_mark, category_paths, media_of, no_file
from coldstart.ingest.synonyms import normalise


def of(*rows: dict[str, Any], **given: tuple[str, ...]) -> Recognition:
    return recognise(list(rows[0]), rows, given)


VALUES = {
    "item_id": ("0012", "0013"),
    "title": ("Blue mug", "Red bowl"),
    "price": ("12,90", "3,50"),
    "description": ("<p>A mug</p>", "<p>A bowl</p>"),
    "category": ("Mugs", "Bowls"),
    "creator": ("Acme", "Globex"),
    "created_at": ("2024-01-05", "2024-01-06"),
    "image": ("photos/1.jpg", "photos/2.jpg"),
}


@pytest.mark.parametrize(
    "header",
    [
        "Artikelnummer Bezeichnung Preis Beschreibung Kategorie Hersteller Erstelldatum Bild",
        "Référence Titre Prix Descriptif Catégorie Marque Date_de_création Image_principale",
        "Referencia Nombre Precio Descripción Categoría Marca Fecha_de_creación Imagen",
        "Codice Nome Prezzo Descrizione Categoria Produttore Data_di_creazione Immagine",
        "Código Título Preço Descrição Categoria Fabricante Data_de_criação Imagem",
        "Artikelcode Productnaam Prijs Omschrijving Categorie Merk Aanmaakdatum Afbeelding",
        "Artikelid Namn Pris Beskrivning Kategori Varumärke Skapad Bild",
        "Varenummer Varenavn Pris Beskrivelse Kategori Mærke Oprettet Billede",
        "Indeks Nazwa Cena Opis Kategoria Producent Data_dodania Zdjęcie",
        "Kód Název Cena Popis Kategorie Výrobce Vytvořeno Obrázek",
        "ÜRÜN_KODU ÜRÜN_ADI FİYAT AÇIKLAMA KATEGORİ MARKA TARİH GÖRSEL",
        "Артикул Название Цена Описание Категория Бренд Дата_создания Изображение",
        "商品番号 商品名 価格 説明 カテゴリー ブランド 登録日 画像",
        "商品编号 商品名称 售价 描述 分类 品牌 创建时间 图片",
        "g:id g:title g:price g:description g:product_type g:brand created g:image_link",
        "SKU Product-Name Regular-price Description Categories Vendor date_created Images",
    ],
)
def test_names_of_many_languages_are_known(header: str) -> None:
    columns = [name.replace("_", " ") for name in header.split()]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*VALUES.values(), strict=True)]
    found = recognise(columns, rows)
    assert found.map() == dict(zip(VALUES, columns, strict=True))
    assert (found.attributes, found.confident().map()) == ((), found.map())


def test_values_tell_what_names_do_not() -> None:
    rows = [
        {
            "c1": f"a{n}",
            "c2": f"Blue mug number {n}",
            "c3": "A long text. " * 20,
            "c4": "12,90 €",
            "c5": f"pics/{n}.png",
        }
        for n in range(5)
    ]
    found = of(*rows)
    assert found.map() == {"item_id": "c1", "title": "c2", "description": "c3", "price": "c4", "image": "c5"}
    assert not any(match.sure for match in found.matches)
    assert found.confident().map() == {}


@pytest.mark.parametrize(
    ("row", "field", "rival"),
    [
        ({"product_id": "1", "sku": "a", "name": "x"}, "item_id", "sku"),
        ({"id": "1", "name": "x", "price": "3", "sale_price": "2"}, "price", "sale_price"),
    ],
)
def test_two_candidates_are_doubtful_and_named(row: dict[str, Any], field: str, rival: str) -> None:
    match = of(row).of(field)
    assert match is not None
    assert (match.rivals, match.sure) == ((rival,), False)
    assert f"{rival} may be it too" in match.doubt
    settled = of(row, **{field: (rival,)}).of(field)
    assert settled is not None
    assert (settled.columns, settled.sure) == ((rival,), True)


def test_what_only_sounds_like_a_field_is_an_attribute() -> None:
    row = {"id": "1", "title": "Mug", "seo title": "m", "shipping price": "3", "type": "4", "image alt text": "a.b"}
    assert of(row).map() == {"item_id": "id", "title": "title"}
    assert of({"id": "1", "name": "Mug", "created": "soon", "photo": "3", "gift card": "no"}).map() == {
        "item_id": "id",
        "title": "name",
    }


def test_numbered_pictures_come_in_their_order() -> None:
    row = {"id": "1", "image_10": "j.jpg", "image_2": "b.jpg", "image_1": "a.jpg"}
    assert of(row).map()["images"] == ["image_1", "image_2", "image_10"]


def test_a_currency_in_a_name_counts() -> None:
    found = of({"sku": "1", "name": "Mug", "Preis (EUR)": "12,90"})
    assert (found.map()["price"], found.currency) == ("Preis (EUR)", "EUR")


@pytest.mark.parametrize(
    ("values", "form"),
    [
        (["2024-01-05", "2024-01-06 10:00"], "ISO 8601"),
        (["25/01/2024", "02/02/2024"], "%d/%m/%Y"),
        (["01/25/2024", "02/02/2024"], "%m/%d/%Y"),
        (["01/02/2024", "02/02/2024"], None),
        (["05.01.2024 10:30", "06.01.2024 11:00"], "%d.%m.%Y %H:%M"),
        (["Fri, 05 Jan 2024 10:00:00 +0100"], "RFC 822"),
        (["soon", "later"], None),
        (["tbd", *(f"{day}.01.2024" for day in range(10, 20))][::-1], "%d.%m.%Y"),
        (["", "-", *(f"{day}.01.2024" for day in range(10, 20))], "%d.%m.%Y"),
    ],
)
def test_the_dates_of_a_column_have_one_format(values: list[str], form: str | None) -> None:
    assert date_format_of(values) == form
    if form is not None:
        assert parse_date(next(text for text in reversed(values) if "2024" in text), form).year == 2024


@pytest.mark.parametrize(
    ("text", "path", "others"),
    [
        ("Home > Kitchen > Mugs", ["Home", "Kitchen", "Mugs"], []),
        ("Clothing > Hoodies, Clothing > Sale", ["Clothing", "Hoodies"], ["Clothing > Sale"]),
        ("Food, Beverages & Tobacco > Food Items", ["Food, Beverages & Tobacco", "Food Items"], []),
        ("Sale", ["Sale"], []),
    ],
)
def test_nested_categories_are_split(text: str, path: list[str], others: list[str]) -> None:
    assert category_paths(text, ">") == (path, others)


def test_the_mark_between_categories_is_that_of_the_column() -> None:
    assert category_mark(["Default Category/Gear", "Default Category/Gear/Bags"]) == "/"
    assert category_mark(["Men/Women", "Kitchen", "Garden"]) == ""
    assert category_mark(["A » B", "C"]) == "»"
    assert category_mark(["Default Category/Gear", "Default Category/Bags", ""]) == "/"


def test_nested_values_become_columns() -> None:
    row = {
        "id": 1,
        "price": {"amount": "3", "currency": "EUR"},
        "variants": [{"sku": "a", "size": "S"}, {"sku": "b", "size": "S"}],
        "options": [{"name": "Colour", "values": ["red"]}, {"name": "Title", "values": ["Default Title"]}],
        "image": {"bytes": b"x", "path": None},
        "attributes": {"a": {"b": 1}},
    }
    assert flatten(row) == {
        "id": 1,
        "price.amount": "3",
        "price.currency": "EUR",
        "variants.sku": ["a", "b"],
        "variants.size": "S",
        "Colour": "red",
        "image": {"bytes": b"x", "path": None},
        "attributes": {"a": {"b": 1}},
    }


def test_lists_of_a_graphql_server_are_lists() -> None:
    images = {"edges": [{"node": {"url": "1.jpg"}}, {"node": {"url": "2.jpg"}}], "pageInfo": {}}
    assert flatten({"images": images, "variants": {"nodes": [{"sku": "a"}]}, "more": {"edges": []}}) == {
        "images.url": ["1.jpg", "2.jpg"],
        "variants.sku": "a",
        "more": [],
    }


def test_names_are_compared_without_case_accents_and_marks() -> None:
    assert {normalise(name) for name in ("g:Image-Link", "IMAGE_LINK", "image link", "Ímage.Link")} == {"imagelink"}


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ColdstartError, match="an item has no field 'titel' \\(did you mean 'title'\\?\\)"):
        of({"a": 1}, titel=("a",))


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        (
            {"Artikelnummer": "A-1", "EAN": "4001", "Artikelbezeichnung": "Tasse", "UVP": "15,90", "Preis": "12,90"},
            {"item_id": "Artikelnummer", "title": "Artikelbezeichnung", "price": "Preis"},
        ),
        (
            {"Kod produktu": "A-1", "MPN": "m", "Nazwa": "Kubek", "Cena brutto": "15,90", "Amount": "3"},
            {"item_id": "Kod produktu", "title": "Nazwa", "price": "Cena brutto"},
        ),
        (
            {"Référence": "A-1", "Nom": "Tasse", "Type": "simple", "Catégorie": "Cuisine", "Details": "x y"},
            {"item_id": "Référence", "title": "Nom", "description": "Details", "category": "Catégorie"},
        ),
        (
            {"id": "1", "name": "Mug", "price_net": "10.92", "price_gross": "13", "sales_channel": "all",
             "manufacturer_name": "Acme"},
            {"item_id": "id", "title": "name", "price": "price_gross", "creator": "manufacturer_name"},
        ),
        (
            {"SKU": "1", "NL_Title_Long": "Mok blauw", "NL_Description_Long": "lang", "NL_Category_1": "Keuken"},
            {"item_id": "SKU", "title": "NL_Title_Long", "description": "NL_Description_Long",
             "category": "NL_Category_1"},
        ),
        (
            {"*Action": "Add", "CustomLabel": "7", "*Title": "Lamp", "PicURL": "x/1", "*ConditionID": "3"},
            {"item_id": "CustomLabel", "title": "*Title", "image": "PicURL"},
        ),
        (
            {"MATNR": "0007", "MAKTX": "Pumpe", "NETPR": "12,90", "WAERS": "EUR", "ERSDA": "20240105"},
            {"item_id": "MATNR", "title": "MAKTX", "price": "NETPR", "attributes.currency": "WAERS",
             "created_at": "ERSDA"},
        ),
        (
            {"handleId": "P1", "sku": "R1", "name": "Ring", "productImageUrl": "1.jpg", "surcharge": "0"},
            {"item_id": "handleId", "title": "name", "image": "productImageUrl"},
        ),
        ({"sku": "1", "name": "Lamp", "Condition": "New", "price_cents": "1299"}, {"item_id": "sku", "title": "name"}),
    ],
)  # fmt: skip
def test_exports_of_shops_keep_their_own_id_name_and_price(row: dict[str, Any], fields: dict[str, str]) -> None:
    assert of(row).map() == fields


def test_pictures_of_numbered_columns_with_a_longer_name_are_all_taken() -> None:
    row = {"SKU": "1", "Bildlink 1": "https://x.example/1", "Bildlink 2": "https://x.example/2"}
    assert of(row).map()["images"] == ["Bildlink 1", "Bildlink 2"]


def test_a_number_behind_the_name_of_an_option_counts_too() -> None:
    row = {"SKU": "1", "Option Name 1": "Size", "Option Value 1": "S", "productOptionName1": "Colour"}
    found = of({**row, "productOptionDescription1": "red"})
    assert set(found.pairs) == {
        ("Option Name 1", "Option Value 1"),
        ("productOptionName1", "productOptionDescription1"),
    }


def test_categories_side_by_side_are_parted() -> None:
    assert category_paths("Rings;Gold", "") == (["Rings"], ["Gold"])
    assert category_paths("c1|c2|c1", "") == (["c1"], ["c2"])
    assert category_paths(";", "") == ([";"], [])


def test_addresses_without_a_scheme_and_by_spaces_are_media_of_the_web() -> None:
    assert media_of(["//cdn.example/a.jpg"], no_file) == ["https://cdn.example/a.jpg"]
    assert media_of(["https://x.example/1.jpg https://x.example/2.jpg"], no_file) == [
        "https://x.example/1.jpg",
        "https://x.example/2.jpg",
    ]
    assert media_of(["//server/share", "my photo.jpg"], no_file) == ["//server/share", "my photo.jpg"]


def test_columns_with_commas_between_them_are_several(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text('sku,photo a,"x,y",photo b\n1,a.jpg,Mug,b.jpg\n', "utf-8")
    plan = plan_table("a.csv", table, {"images": ("photo a, photo b",), "title": ("x,y",)}, {}, ())
    assert plan.settings()["map"] == {"item_id": "sku", "title": "x,y", "images": ["photo a", "photo b"]}


def test_an_item_without_pictures_does_not_hide_those_of_others() -> None:
    columns = ["id", "title", "images", "images.src", "image", "image.src"]
    rows: list[dict[str, Any]] = [
        {"id": "1", "title": "Mug", "images.src": ["x/1.jpg", "x/2.jpg"], "image.src": "x/1.jpg"},
        {"id": "2", "title": "Bowl", "images": [], "image": None},
    ]
    found = {"item_id": "id", "title": "title", "images": ["image.src", "images.src"]}
    assert recognise(columns, rows).map() == found
    assert recognise(columns[:4], rows).map() == {"item_id": "id", "title": "title", "image": "images.src"}


def test_another_table_is_no_change_of_the_last_one(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("sku,name,price\n1,Mug,3\n", "utf-8")
    stored = {"clean": True, "map": {"item_id": "Artikel"}, "columns": ["Artikel", "Titel", "price"]}
    assert plan_table("a.csv", table, {}, stored, ()).changes == ()
    stored["columns"] = ["sku", "Titel", "price"]
    assert plan_table("a.csv", table, {}, stored, ()).changes == ("column 'Titel' is missing",)
    known = {"clean": True, "map": {"item_id": "sku"}, "columns": ["sku", "a", "b"]}
    assert plan_table("a.csv", table, {}, known, ()).changes == (
        "new column 'name': becomes an attribute",
        "new column 'price': becomes an attribute",
        "column 'a' is missing",
        "column 'b' is missing",
    )


def test_a_code_that_many_titles_share_is_no_id() -> None:
    rows = [{"Code": f"K{n % 3}", "EAN": f"400{n}", "Name": f"Mug {n}"} for n in range(9)]
    found = of(*rows)
    assert found.map() == {"item_id": "EAN", "title": "Name"}
    assert (found.attributes, found.matches[0].doubt) == (("Code",), "rows of different titles have the same 'Code'")
    (alone, _) = of(*({"Code": row["Code"], "Name": row["Name"]} for row in rows)).matches
    assert alone.doubt == (
        "rows of different titles have the same 'Code', and become one item: is another column the id?"
    )
    variants = [{"Code": f"K{n // 3}", "EAN": f"400{n}", "Name": "" if n % 3 else f"Mug {n}"} for n in range(9)]
    assert of(*variants).map()["item_id"] == "Code"
    assert of(*rows, item_id=("Code",)).matches[0].sure


def test_named_values_of_magento_become_columns() -> None:
    named = [{"attribute_code": "colour", "value": "red"}, {"attribute_code": "size", "value": ["S", "M"]}]
    assert flatten({"custom_attributes": named}) == {"colour": "red", "size": ["S", "M"]}


def test_a_column_that_few_rows_have_gives_way() -> None:
    rows = [{"Handle": f"h{n}", "Title": f"Mug {n}", "Type": "Mugs", "Product Category": None} for n in range(5)]
    assert of(*rows, {**rows[0], "Handle": "h9", "Product Category": "Home > Mugs"}).map()["category"] == "Type"
    rows = [{**row, "Product Category": "Home > Mugs"} for row in rows]
    assert of(*rows, {**rows[0], "Product Category": None}).map()["category"] == "Product Category"


def test_a_column_may_be_several_fields(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("sku,name,price\n1,Mug,3\n", "utf-8")
    given = {"title": ["name"], "description": ["name"], "attributes.model": ["name"]}
    mapped = plan_table("a.csv", table, given, {}, ()).settings()["map"]
    (entry,) = Manifest(table, mapped, clean=True).entries()
    assert entry.fields == {
        "item_id": "1",
        "title": "Mug",
        "description": "Mug",
        "price": 3.0,
        "attributes": {"model": "Mug"},
    }


def test_a_file_with_a_comma_in_its_name_stays_one_picture_where_rows_are_joined(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text('sku,name,image\n1,Mug,"a,b.jpg"\n1,Mug,"c.jpg,d.jpg"\n', "utf-8")
    mapped = {"item_id": "sku", "title": "name", "image": "image"}
    (entry,) = Manifest(table, mapped, clean=True).entries(lambda text: text == "a,b.jpg")
    assert entry.fields["image"] == ["a,b.jpg", "c.jpg", "d.jpg"]


def test_what_ids_are_made_from_counts_in_the_survey_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("name,url\nMug,x/1\nMug,x/2\n", "utf-8")
    joined = [Manifest(table, {"title": "name"}, clean=True, id_from=[one]).survey().joined for one in ("url", "name")]
    assert joined == [0, 0]
    ids = [next(Manifest(table, clean=True, id_from=[one]).entries()).fields["item_id"] for one in ("url", "name")]
    assert ids[0] != ids[1]
    assert len(Manifest(table, {"title": "name"}, clean=True, id_from=["name"]).survey().repeated_keys) == 1


def test_json_ld_is_understood() -> None:
    offers = {"@type": "Offer", "price": "12.90", "priceCurrency": "EUR"}
    row = {"@type": "Product", "sku": "1", "name": "Mug", "image": ["x/1.jpg"], "offers": offers}
    found = of(flatten(row))
    assert found.map() == {
        "item_id": "sku",
        "title": "name",
        "price": "offers.price",
        "attributes.currency": "offers.priceCurrency",
        "image": "image",
    }
    assert found.attributes == ("@type", "offers.@type")


@pytest.mark.parametrize("empty", [b"", {"bytes": None, "path": None}, {"bytes": b"", "path": None}, None])
def test_a_picture_of_no_bytes_is_no_picture(tmp_path: Path, empty: Any) -> None:
    table = tmp_path / "a.parquet"
    picture = b"x" if isinstance(empty, bytes) else {"bytes": b"x", "path": None}
    pq.write_table(pa.table({"sku": ["1", "2"], "name": ["Mug", "Bowl"], "image": [picture, empty]}), table)
    mapped = {"item_id": "sku", "title": "name", "image": "image"}
    first, second = Manifest(table, mapped, clean=True).entries()
    assert first.fields["image"] == [picture]
    assert second.fields == {"item_id": "2", "title": "Bowl"}


def test_a_short_description_is_the_title_where_there_is_no_other() -> None:
    rows = [{"Cod.": f"A{n}", "Descrizione": f"Tazza blu {n}", "Prezzo": "3"} for n in range(3)]
    found = of(*rows)
    assert found.map() == {"item_id": "Cod.", "title": "Descrizione", "price": "Prezzo"}
    assert not found.matches[1].sure
    assert of(*rows, description=("Descrizione",)).map()["description"] == "Descrizione"
    long = [{**row, "Descrizione": f"<p>{row['Descrizione']}</p>"} for row in rows]
    assert "title" not in of(*long).map()


def test_of_two_prices_that_with_tax_is_taken() -> None:
    row = {"Artikelnummer": "1", "Naam": "Mok", "Verkoopprijs excl. BTW": "10", "Verkoopprijs incl. BTW": "12"}
    assert of(row).map()["price"] == "Verkoopprijs incl. BTW"
