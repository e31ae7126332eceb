"""Name the columns that shops, price portals and logs use for our fields, in the languages of the field.

The names of a field stand in the order in which they are preferred; all are compared by `normalise`.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache

_LETTERS = str.maketrans({"ı": "i", "ł": "l", "ø": "o", "æ": "ae", "œ": "oe", "đ": "d", "ß": "ss", "№": "no"})
_NAMESPACE = re.compile(r"^[a-z]{1,8}:(?!//)", re.IGNORECASE)


@lru_cache(maxsize=4096)
def normalise(name: str) -> str:
    """Reduce the name of a column to letters and digits without case, accents, separators and a prefix such as `g:`."""
    text = _NAMESPACE.sub("", name.strip()).casefold().translate(_LETTERS)
    parts = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in parts if letter.isalnum())


_NAMES = {
    "item_id": """
        item_id, id, handle, handle_id, product_id, item id, article_id, sku, product_sku, item_sku, variant_sku,
        seller_sku, product_code, item_code, article_number, article_no, item_number, item_no, product_number,
        product_no, product_reference, reference, ref, uid, uuid, guid, offer_id, listing_id, parent_id, entity_id,
        id_product, external_id, video_id, movie_id, content_id, key, code, Artikelnummer, Artikel-Nr, ArtNr, Art.-Nr.,
        Artikel, Bestellnummer, Bestell-Nr, Produkt-ID, Produktnummer, Warennummer, Materialnummer, MATNR, Identifiant,
        Identifiant produit, ID produit, Référence n°, Référence, Référence produit, Code article, Code produit,
        Référencia, Referencia, Identificador, Código, Código de producto, Código do produto, Codice, Cod.,
        Cod. articolo, Codice articolo, Codice prodotto, Riferimento, Referência, ID do produto, ID producto,
        ID prodotto, Artikelcode, Productcode, Product-ID, Artikelnr, Bestelnummer, Varenummer, Varenr, Produktnr,
        Produkt id, Artikelid, Identyfikator, ID produktu, Kod produktu, Kod, Symbol, Indeks, Nr katalogowy, Id oferty,
        Numer oferty, Kód, Kód produktu, Kód zboží, Katalogové číslo, Číslo produktu, Ürün kodu, Ürün no, Stok kodu,
        Ürün id, Kimlik, Артикул, Код, Код товара, Идентификатор, ID товара, 商品コード, 商品管理番号（商品URL）,
        商品番号, 商品ID, 品番, 管理番号, 商品管理番号, 商品编号, 商品编码, 商品id, 货号, 编号, 产品编号, custom_label,
        custom_label (sku), stock_keeping_unit, part_number, mpn, gtin, ean, upc, barcode, isbn, asin
    """,
    "title": """
        title, product_title, product_name, item_name, item_title, name, item, product, headline, caption,
        listing_title, display_name, model_name, product_label, video_title, title_long, title_short, long_title,
        full_title, subject, Titel, Bezeichnung, Artikelbezeichnung, Artikelname, Produktname, Produktbezeichnung,
        Produkttitel, Materialkurztext, Materialbezeichnung, MAKTX, Produkt, Titre, Nom, Nom du produit, Nom produit,
        Désignation, Libellé, Intitulé, Produit, Título, Nombre, Nombre del producto, Nombre producto, Producto,
        Denominación, Titolo, Nome, Nome prodotto, Nome articolo, Denominazione, Prodotto, Nome do produto, Produto,
        Naam, Productnaam, Artikelnaam, Omschrijving kort, Namn, Produktnamn, Benämning, Navn, Varenavn, Produktnavn,
        Tytuł, Nazwa, Nazwa produktu, Nazwa towaru, Tytuł oferty, Nazwa oferty, Název, Název produktu, Jméno,
        Název zboží, Başlık, Ürün adı, Ürün ismi, Ad, İsim, Название, Наименование, Название товара,
        Наименование товара, Имя, Заголовок, 商品名, 製品名, 品名, タイトル, 名称, 名前, 商品名称, 商品标题, 产品名称,
        标题, 品名称
    """,
    "description": """
        description, product_description, long_description, full_description, body, body_html, body (html), html_body,
        item_description, description_long, description_html, Beschreibung, Langbeschreibung, Artikelbeschreibung,
        Produktbeschreibung, Artikeltext, Langtext, Kurzbeschreibung, Description longue, Description produit,
        Descriptif, Résumé, Description courte, Descripción, Descripción larga, Descripción del producto, Resumen,
        Descrizione, Descrizione lunga, Descrizione prodotto, Riepilogo, Descrição, Descrição do produto, Resumo,
        Beschrijving, Omschrijving, Productomschrijving, Lange omschrijving, Productbeschrijving, Beskrivning,
        Produktbeskrivning, Beskrivelse, Produktbeskrivelse, Varebeskrivelse, Opis, Opis produktu, Pełny opis,
        Długi opis, Opis oferty, Popis, Popis produktu, Dlouhý popis, Açıklama, Ürün açıklaması, Описание,
        Описание товара, Полное описание, 説明, 商品説明, 商品説明文, PC用商品説明文, 詳細, 描述, 商品描述, 产品描述,
        详情, 商品详情, content, text, details, summary, short_description, overview, plot, abstract, excerpt,
        bullet_points
    """,
    "category": """
        category, product_category, categories, category_path, category_name, product_type, google_product_category,
        item_type_keyword, taxonomy, product_categories, categories (x,y,z...), custom_product_type, article_type,
        default_category, main_category, primary_category, category_1, category_level_1, breadcrumb, Kategorie,
        Kategorien, Produktkategorie, Warengruppe, Artikelgruppe, Produktgruppe, MATKL, Rubrik, Catégorie, Catégories,
        Catégorie de produit, Rubrique, Rayon, Famille, Categoría, Categorías, Familia, Categoria, Categorie,
        Productcategorie, Productgroep, Kategori, Kategorier, Produktkategori, Varegruppe, Varugrupp, Kategoria,
        Kategorie produktu, Kategoria produktu, Kategoriler, Ürün kategorisi, Категория, Категории, Раздел, Рубрика,
        カテゴリ, カテゴリー, 分類, 分类, 类别, 类目, 商品分类, ジャンル, type, item_type, department, section, genre,
        label, collection
    """,
    "tags": """
        tags, tag, genres, keywords, keyword, generic_keywords, product_tags, search_terms, labels, hashtags,
        meta_keywords, Schlagwörter, Schlagworte, Schlüsselwörter, Stichwörter, Suchbegriffe, Mots-clés, Mots clés,
        Étiquettes, Etiquetas, Palabras clave, Tag prodotto, Parole chiave, Etichette, Palavras-chave, Trefwoorden,
        Labels, Nyckelord, Taggar, Nøkkelord, Nøgleord, Tagi, Słowa kluczowe, Štítky, Klíčová slova, Etiketler,
        Anahtar kelimeler, Теги, Метки, Ключевые слова, タグ, キーワード, 标签, 关键词
    """,
    "creator": """
        creator, brand, brand_name, vendor, manufacturer, manufacturer_name, maker, author, artist, designer,
        publisher, uploader, producer, studio, label_name, Marke, Markenname, Hersteller, Lieferant, Autor, Verlag,
        Anbieter, Marque, Fabricant, Fournisseur, Auteur, Marca, Fabricante, Proveedor, Marchio, Produttore, Fornitore,
        Autore, Fornecedor, Merk, Merknaam, Fabrikant, Leverancier, Märke, Varumärke, Tillverkare, Leverantör, Mærke,
        Merke, Producent, Leverandør, Fabrikat, Marka, Dostawca, Značka, Výrobce, Dodavatel, Üretici, Satıcı, Бренд,
        Производитель, Марка, Поставщик, Автор, ブランド, ブランド名, メーカー, 作者, 品牌, 厂商, 制造商, seller,
        channel, shop_name, supplier
    """,
    "price": """
        price, unit_price, regular_price, variant_price, standard_price, list_price, base_price, retail_price,
        price_amount, price_incl_tax, price tax included, price_tax_incl, price_gross, gross_price, price_brutto,
        price_tax_excl, price_net, net_price, selling_price, your_price, item_price, current_price, Preis,
        Preis brutto, Bruttopreis, Verkaufspreis, VK, VK-Preis, VK brutto, Endpreis, Einzelpreis, Listenpreis,
        Standardpreis, Preis netto, NETPR, Angebotspreis, Aktionspreis, Prix, Prix TTC, Prix de vente, Prix unitaire,
        Prix de base, Tarif, Prix HT, Prix promo, Precio, Precio de venta, PVP, Precio unitario, Precio base,
        Precio oferta, Prezzo, Prezzo di vendita, Prezzo base, Prezzo unitario, Prezzo scontato, Preço, Preço de venda,
        Preço unitário, Preço promocional, Prijs, Verkoopprijs, Prijs incl btw, Adviesprijs, Aanbiedingsprijs, Pris,
        Försäljningspris, Utpris, Salgspris, Udsalgspris, Cena, Cena brutto, Cena sprzedaży, Cena detaliczna,
        Cena netto, Cena promocyjna, Cena s DPH, Prodejní cena, Cena bez DPH, Fiyat, Satış fiyatı, Birim fiyat,
        İndirimli fiyat, Цена, Цена продажи, Розничная цена, Стоимость, Цена со скидкой, 価格, 販売価格, 値段,
        税込価格, 単価, 定価, 税抜価格, セール価格, 价格, 售价, 单价, 销售价, 市场价, 促销价, amount, cost, msrp, rrp,
        uvp, sale_price, special_price, discount_price, final_price
    """,
    "attributes.currency": """
        currency, currency_code, price_currency, currency_iso, iso_currency, variant_currency, currency_id,
        currency_iso_code, Währung, Waehrung, Währungscode, Währg, WAERS, Devise, Monnaie, Moneda, Divisa, Valuta,
        Moeda, Waluta, Měna, Para birimi, Döviz, Валюта, 通貨, 货币, 币种
    """,
    "created_at": """
        created_at, created, date_created, created_date, creation_date, created_on, date_added, added_at, published_at,
        publish_date, published, publication_date, release_date, released, launch_date, upload_date, uploaded_at,
        pub_date, pubDate, date_add, first_available, available_since, listed_at, start_date, timestamp, date,
        Erstellt, Erstellt am, Erstelldatum, Erstellungsdatum, Angelegt am, ERSDA, Datum, Veröffentlicht am,
        Veröffentlichungsdatum, Date de création, Créé le, Date d'ajout, Date de publication, Fecha de creación, Fecha,
        Fecha de alta, Fecha de publicación, Creado, Data di creazione, Data creazione, Data, Creato il,
        Data de criação, Criado em, Aanmaakdatum, Aangemaakt, Aangemaakt op, Skapad, Skapat, Oprettet, Opprettet,
        Data utworzenia, Data dodania, Utworzono, Datum vytvoření, Vytvořeno, Oluşturulma tarihi, Eklenme tarihi,
        Tarih, Дата создания, Дата добавления, Дата, Создан, 作成日, 登録日, 発売日, 创建时间, 上架时间, 日期
    """,
    "kind": """
        kind
    """,
    "attributes": """
        attributes, attributes_json, properties, specs, specifications, metadata
    """,
    "images": """
        image, images, image_url, image_urls, image_link, image_src, base_image, main_image, main_image_url, picture,
        pictures, picture_url, photo, photos, photo_url, image_path, image_file, image_file_name, file_name, filename,
        poster, poster_url, poster_path, cover, cover_url, product_image, product_images, product_image_url,
        featured_image, image urls (x,y,z...), img, img_url, img_src, pic_url, picture_link, display_url,
        product_image_file, cover_media_url, small_image, thumbnail, thumbnail_image, thumbnail_url, swatch_image,
        image_1, Bild, Bilder, Bild-URL, Bildurl, Bilddatei, Bildlink, Produktbild, Produktbilder, Hauptbild, Foto,
        Fotos, Artikelbild, Image principale, Images produit, URL images, URL images (x,y,z...), URL image, Lien image,
        Imagen, Imágenes, URL imagen, Imagen principal, Immagine, Immagini, URL immagine, Immagine principale, Imagem,
        Imagens, URL da imagem, Imagem principal, Afbeelding, Afbeeldingen, Afbeelding url, Productafbeelding,
        Bild-länk, Bildlänk, Billede, Billeder, Billedelink, Bilde, Zdjęcie, Zdjęcia, Obraz, Adres zdjęcia,
        Link do zdjęcia, Obrázek, Obrázky, URL obrázku, Fotka, Resim, Görsel, Görseller, Resim url, Resim linki,
        Изображение, Изображения, Картинка, Фото, Ссылка на изображение, 画像, 商品画像, 画像URL, 商品画像URL, 図,
        图片, 主图, 商品图片, 图片链接
    """,
    "videos": """
        video, videos, video_url, video_urls, video_link, video_path, video_file, clip, clip_url, movie, Film, Vidéo,
        Vídeo, Wideo, Filmik, Видео, 動画, 视频
    """,
    "audio": """
        audio, audio_url, audio_path, sound, preview_audio, audio_file, Ton, Son, Ljud, Lyd, Dźwięk, Аудио, 音声,
        音频
    """,
    "user_id": """
        user_id, user, uid, customer_id, customer, visitor_id, visitor, member_id, viewer_id, reviewer_id, client_id,
        account_id, profile_id, buyer_id, session_id, anonymous_id, customer_email, shopper_id, person_id,
        Kundennummer, Kunden-ID, Kunde, Kundennr, Benutzer, Nutzer, Nutzer-ID, Client, ID client, Numéro client,
        Utilisateur, Identifiant client, Cliente, ID cliente, Usuario, ID usuario, Utente, Usuário, Klant, Klant-ID,
        Klantnummer, Gebruiker, Kund, Kundnummer, Kund-ID, Användare, Kundenummer, Bruger, Bruker, Klient, ID klienta,
        Użytkownik, Zákazník, ID zákazníka, Uživatel, Müşteri, Müşteri no, Kullanıcı, Клиент, ID клиента,
        Пользователь, ID пользователя, 顧客ID, 会員ID, ユーザーID, 客户ID, 用户ID, 会员ID
    """,
    "timestamp": """
        timestamp, time, ts, datetime, event_time, unix_time, unixreviewtime, date_time, event_timestamp, occurred_at,
        created_at, order_date, purchase_date, date, event_date, ordered_at, purchased_at, clicked_at, viewed_at,
        invoice_date, transaction_date, time_ms, Zeit, Zeitstempel, Zeitpunkt, Datum, Bestelldatum, Kaufdatum,
        Date de commande, Date, Heure, Horodatage, Fecha, Fecha de compra, Fecha y hora, Data, Data ordine,
        Data do pedido, Data e ora, Tijd, Tijdstip, Besteldatum, Tid, Tidspunkt, Orderdatum, Ordredato, Dato,
        Data zamówienia, Czas, Datum objednávky, Čas, Tarih, Sipariş tarihi, Zaman, Дата, Время, Дата заказа, 日時,
        注文日, 購入日, 时间, 下单时间, 日期
    """,
    "event": """
        event, event_type, event_name, action, behavior, behaviour, activity, interaction, interaction_type, Ereignis,
        Aktion, Événement, Évènement, Acción, Evento, Azione, Ação, Gebeurtenis, Actie, Händelse, Handling, Hændelse,
        Zdarzenie, Akcja, Událost, Akce, Olay, Eylem, Событие, Действие, イベント, 行動, 事件, 行为
    """,
    "weight": """
        weight, rating, stars, overall, score, Bewertung, Note, Évaluation, Valoración, Puntuación, Valutazione, Voto,
        Avaliação, Nota, Beoordeling, Waardering, Betyg, Vurdering, Ocena, Hodnocení, Puan, Оценка, Рейтинг, 評価,
        评分
    """,
    "further_images": """
        additional_image_link, additional_images, additional_image_urls, other_images, other_image_url, gallery,
        gallery_images, image_gallery, variant_image, more_images, extra_images, alternate_images, weitere Bilder,
        zusätzliche Bilder, images supplémentaires, autres images, imágenes adicionales, immagini aggiuntive,
        imagens adicionais, extra afbeeldingen, fler bilder, flere billeder, dodatkowe zdjęcia, další obrázky,
        ek resimler, дополнительные изображения, サブ画像, 附图, media_gallery, hires_image
    """,
    "file": """
        file, file_path, path, media, media_file, media_path, asset, asset_path, Datei, Dateipfad, fichier, chemin,
        archivo, ruta, arquivo, percorso, bestand, fil, plik, soubor, dosya, файл, ファイル, 文件
    """,
    "link": """
        link, url, product_url, product_link, permalink, canonical_url, deeplink, deep_link, page_url, item_url,
        Produktlink, Produkt-URL, lien, lien produit, enlace, collegamento, URL prodotto, URL do produto, productlink,
        länk, odkaz, adres url, bağlantı, ссылка, 商品URL, 链接
    """,
}
"""Field -> names of its columns. `further_images`: pictures but the main one; `file`: any medium; `link`: pages."""

_NOT_OF_ITEMS = ("user_id", "timestamp", "event", "weight", "further_images", "file", "link")


@cache
def ranks(field: str) -> dict[str, int]:
    """Map the normalised names of a field's columns to their rank, 0 for the one that is preferred."""
    found: dict[str, int] = {}
    for name in re.split(r",(?![yz])", _NAMES[field]):
        if key := normalise(name):
            found.setdefault(key, len(found))
    return found


def fields() -> list[str]:
    """List the fields of items that columns are known for."""
    return [name for name in _NAMES if name not in _NOT_OF_ITEMS]


@cache
def known_names() -> frozenset[str]:
    """List the normalised names of all fields' columns."""
    return frozenset(key for field in _NAMES for key in ranks(field))
