"""XML and HTML as the services and browsers write them, whole, damaged and hostile."""

# ruff: noqa: E501 - files stand here as their producers write them

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import pytest
from samples import Sample

from assistant.errors import CorpusError
from assistant.papers import Raw, Record, Rejected, to_record
from assistant.sources import bibtex, markup, tagged, web
from assistant.sources.content import Content

FORMS = {**markup.FORMS, **web.FORMS, **tagged.FORMS, **bibtex.FORMS}
LONG = "This abstract is made for a test and says nothing of any paper that anybody wrote. " * 4
"""Long enough to be an abstract on a page."""

# --- XML --------------------------------------------------------------------------------------------------------------

ATOM = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <link href="http://arxiv.org/api/query?search_query=all:x&amp;id_list=" rel="self" type="application/atom+xml"/>
  <title type="html">ArXiv Query: search_query=all:x</title>
  <id>http://arxiv.org/api/cHxbiOdZaP56ODnBPIenZhzg5f8</id>
  <updated>2024-10-01T00:00:00-04:00</updated>
  <opensearch:totalResults xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">3</opensearch:totalResults>
  <entry>
    <id>http://arxiv.org/abs/2101.00001v2</id>
    <updated>2022-08-02T00:41:18Z</updated>
    <published>2021-01-12T17:57:34Z</published>
    <title>A Made-Up Transformer for
  $x_i &lt; y$</title>
    <summary>  We made up a caf&#233; &amp; a model.
It reaches 5% on nothing.
</summary>
    <author><name>Ada Author</name></author>
    <author><name>Bö Writer</name><arxiv:affiliation xmlns:arxiv="http://arxiv.org/schemas/atom">X</arxiv:affiliation></author>
    <arxiv:doi xmlns:arxiv="http://arxiv.org/schemas/atom">10.1000/Made.1</arxiv:doi>
    <link title="doi" href="http://dx.doi.org/10.1000/Made.1" rel="related"/>
    <arxiv:comment xmlns:arxiv="http://arxiv.org/schemas/atom">15 pages</arxiv:comment>
    <arxiv:journal_ref xmlns:arxiv="http://arxiv.org/schemas/atom">J. Made Up 1 (2022)</arxiv:journal_ref>
    <link href="http://arxiv.org/abs/2101.00001v2" rel="alternate" type="text/html"/>
    <arxiv:primary_category xmlns:arxiv="http://arxiv.org/schemas/atom" term="cs.CL"/>
  </entry>
  <entry>
    <id>http://arxiv.org/abs/2101.00002v1</id>
    <title>Broken & Ampersand</title>
    <summary>Not well-formed.</summary>
  </entry>
  <entry>
    <id>http://arxiv.org/abs/2101.00003v1</id>
    <title>No End Tag</title>
    <summary>Its end was lost.</summary>
  <entry>
    <id>http://arxiv.org/abs/hep-th/9901001v3</id>
    <published>1999-01-02T00:00:00Z</published>
    <title>Old Identifiers Stay</title>
    <summary>An abstract of strings.</summary>
    <author><name>C. Author</name></author>
  </entry>
  <entry>
    <id>http://arxiv.org/abs/2101.00005v1</id>
    <title>Nothing to Read Here</title>
    <summary> </summary>
  </entry>
  <entry>
    <id>http://arxiv.org/api/errors#incorrect_id_format_for_1234</id>
    <title>Error</title>
    <summary>incorrect id format for 1234</summary>
  </entry>
  <entry>
    <id>http://arxiv.org/abs/2101.00007v1</id>
    <title>Cut in the Mid"""

OAI = """<?xml version="1.0" encoding="UTF-8"?>
<OAI-PMH xmlns="http://www.openarchives.org/OAI/2.0/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<responseDate>2024-01-01T00:00:00Z</responseDate>
<request verb="ListRecords" metadataPrefix="arXiv">http://export.arxiv.org/oai2</request>
<ListRecords>
<record>
<header><identifier>oai:arXiv.org:0704.0001</identifier><datestamp>2008-11-26</datestamp><setSpec>physics:hep-ph</setSpec></header>
<metadata>
 <arXiv xmlns="http://arxiv.org/OAI/arXiv/" xsi:schemaLocation="http://arxiv.org/OAI/arXiv/ arXiv.xsd">
 <id>0704.0001</id><created>2007-04-02</created><updated>2007-07-24</updated>
 <authors><author><keyname>Author</keyname><forenames>A. B.</forenames><suffix>Jr</suffix></author>
 <author><keyname>Writer</keyname><forenames>Béa</forenames></author></authors>
 <title>Made-up calculation of diphoton production</title><categories>hep-ph</categories>
 <journal-ref>Made.Rev.D76:013009,2007</journal-ref><doi>10.1000/MadeD.76</doi>
 <abstract>  A fully made-up calculation is presented.
</abstract></arXiv>
</metadata>
</record>
<record>
<header status="deleted"><identifier>oai:arXiv.org:0704.0002</identifier><datestamp>2008-11-26</datestamp></header>
</record>
<record>
<header><identifier>oai:arXiv.org:0704.0003</identifier></header>
<metadata><arXivRaw xmlns="http://arxiv.org/OAI/arXivRaw/"><id>0704.0003</id><submitter>A. Author</submitter>
<version version="v1"><date>Mon, 2 Apr 2007 19:18:42 GMT</date><size>9kb</size></version>
<title>A raw record</title><authors>A. Author (1), B. Writer and C. Maker ((1) Nowhere, Made Up)</authors>
<abstract>Raw is how it was sent.</abstract></arXivRaw></metadata>
</record>
<record>
<header><identifier>oai:arXiv.org:0704.0004</identifier></header>
<metadata>
 <oai_dc:dc xmlns:oai_dc="http://www.openarchives.org/OAI/2.0/oai_dc/" xmlns:dc="http://purl.org/dc/elements/1.1/">
 <dc:title>A record in Dublin Core</dc:title><dc:creator>Author, A.</dc:creator><dc:creator>Writer, B.</dc:creator>
 <dc:description>Comment: 12 pages</dc:description><dc:description>  Dublin Core says little. </dc:description>
 <dc:date>2007-03-30</dc:date><dc:type>text</dc:type><dc:identifier>http://arxiv.org/abs/0704.0004</dc:identifier>
 <dc:identifier>doi:10.1000/dc.4</dc:identifier></oai_dc:dc>
</metadata>
</record>
<resumptionToken cursor="0" completeListSize="4">1|2</resumptionToken>
</ListRecords>
</OAI-PMH>
"""

PUBMED = """<?xml version="1.0" ?>
<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2024//EN" "https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_240101.dtd">
<PubmedArticleSet>
<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="1">10000001</PMID>
<Article PubModel="Print"><Journal><ISSN IssnType="Print">0000-0000</ISSN>
<JournalIssue CitedMedium="Print"><Volume>1</Volume><PubDate><Year>2019</Year><Month>Jun</Month></PubDate></JournalIssue>
<Title>Journal of Made-Up Medicine</Title><ISOAbbreviation>J Made Up Med</ISOAbbreviation></Journal>
<ArticleTitle>Effects of H<sub>2</sub>O on <i>E. coli</i> at 10<sup>3</sup> Pa.</ArticleTitle>
<ELocationID EIdType="doi" ValidYN="Y">10.1000/made.med.1</ELocationID>
<Abstract><AbstractText Label="BACKGROUND" NlmCategory="BACKGROUND">Nobody knew &lt;this&gt;.</AbstractText>
<AbstractText Label="RESULTS">Ca<sup>2+</sup> rose.</AbstractText><CopyrightInformation>(c) X</CopyrightInformation></Abstract>
<AuthorList CompleteYN="Y"><Author ValidYN="Y"><LastName>Author</LastName><ForeName>Ada B</ForeName><Initials>AB</Initials></Author>
<Author ValidYN="Y"><CollectiveName>Made-Up Study Group</CollectiveName></Author></AuthorList></Article>
<OtherAbstract Type="Publisher" Language="spa"><AbstractText>Otra cosa.</AbstractText></OtherAbstract></MedlineCitation>
<PubmedData><ArticleIdList><ArticleId IdType="pubmed">10000001</ArticleId><ArticleId IdType="doi">10.1000/made.med.1</ArticleId></ArticleIdList>
<ReferenceList><Reference><ArticleIdList><ArticleId IdType="doi">10.1000/other</ArticleId></ArticleIdList></Reference></ReferenceList></PubmedData>
</PubmedArticle>
<PubmedArticle><MedlineCitation><PMID Version="1">10000002</PMID><Article><Journal><JournalIssue>
<PubDate><MedlineDate>1998 Dec-1999 Jan</MedlineDate></PubDate></JournalIssue><ISOAbbreviation>J Old</ISOAbbreviation></Journal>
<ArticleTitle>No abstract at all.</ArticleTitle></Article></MedlineCitation></PubmedArticle>
<PubmedArticle><MedlineCitation><PMID>10000003</PMID><Article><ArticleTitle>Tags that <b>cross</ArticleTitle></b>
</Article></MedlineCitation></PubmedArticle>
</PubmedArticle>
<PubmedBookArticle><BookDocument><PMID Version="1">20000001</PMID><ArticleIdList><ArticleId IdType="bookaccession">NBK1</ArticleId></ArticleIdList>
<Book><BookTitle book="made">Made-Up Reviews</BookTitle><PubDate><Year>2006</Year></PubDate>
<AuthorList Type="editors"><Author><LastName>Editor</LastName><ForeName>E</ForeName></Author></AuthorList></Book>
<ArticleTitle book="made">A chapter of a book</ArticleTitle>
<AuthorList Type="authors"><Author><LastName>Writer</LastName><ForeName>W</ForeName></Author></AuthorList>
<Abstract><AbstractText>The chapter is short.</AbstractText></Abstract></BookDocument></PubmedBookArticle>
<DeleteCitation><PMID Version="1">30000001</PMID></DeleteCitation>
</PubmedArticleSet>
"""

_STYLE = '<style face="normal" font="default" size="100%">'
ENDNOTE = f"""<?xml version="1.0" encoding="UTF-8" ?><xml><records><record><database name="Made.enl" path="Made.enl">Made.enl</database><source-app name="EndNote" version="20.0">EndNote</source-app><rec-number>7</rec-number><foreign-keys><key app="EN">7</key></foreign-keys><ref-type name="Journal Article">17</ref-type><contributors><authors><author>{_STYLE}Author, Ada</style></author><author>{_STYLE}Writer, B., Jr.</style></author></authors></contributors><titles><title>{_STYLE}The role of CO</style><style face="subscript" font="default" size="100%">2</style>{_STYLE} in nothing</style></title><secondary-title>{_STYLE}Made Journal</style></secondary-title></titles><periodical><full-title>{_STYLE}Made Journal</style></full-title></periodical><dates><year>{_STYLE}2011</style></year></dates><accession-num>{_STYLE}10000009</style></accession-num><abstract>{_STYLE}We exported this &quot;abstract&quot;.</style></abstract><urls><related-urls><url>{_STYLE}https://example.invalid/7</style></url></related-urls></urls><electronic-resource-num>{_STYLE}10.1000/en.7</style></electronic-resource-num><remote-database-name>{_STYLE}PubMed</style></remote-database-name></record><record><rec-number>8</rec-number><titles><title>Styles are left open {_STYLE}</title></titles></record><record><rec-number>9</rec-number><titles><title>Plain</title></titles><abstract>Without any styles.</abstract></record></records></xml>"""

JATS = """<?xml version="1.0"?>
<!DOCTYPE article PUBLIC "-//NLM//DTD JATS (Z39.96) Journal Archiving and Interchange DTD v1.2 20190208//EN" "JATS-archivearticle1.dtd">
<article xmlns:mml="http://www.w3.org/1998/Math/MathML" article-type="research-article"><front>
<journal-meta><journal-title-group><journal-title>Annals of Tests</journal-title></journal-title-group></journal-meta>
<article-meta><article-id pub-id-type="pmid">10000011</article-id><article-id pub-id-type="doi">10.1000/jats.1</article-id>
<title-group><article-title>Archived <italic>in vitro</italic> articles</article-title></title-group>
<contrib-group><contrib contrib-type="author"><name><surname>Author</surname><given-names>Ada</given-names></name></contrib>
<contrib contrib-type="editor"><name><surname>Editor</surname><given-names>E</given-names></name></contrib></contrib-group>
<pub-date pub-type="epub"><year>2021</year></pub-date><pub-date pub-type="ppub"><year>2022</year></pub-date>
<abstract abstract-type="graphical"><p>A picture.</p></abstract>
<abstract><title>Abstract</title><sec><title>Aims</title><p>To archive <inline-formula><alternatives><tex-math>\\documentclass{x}</tex-math><mml:math><mml:mi>x</mml:mi></mml:math></alternatives></inline-formula>.</p></sec><sec><title>Ends</title><p>Done&nbsp;well.</p></sec></abstract>
</article-meta></front><body><sec><title>Body</title><p>Not to be read.</p></sec></body></article>
"""  # fmt: skip

# --- HTML -------------------------------------------------------------------------------------------------------------

_PROPS = escape(json.dumps({
    "periodType": "day",
    "dailyPapers": [
        {"paper": {"id": "2403.00001", "title": "Papers of the Day", "summary": f"One. {LONG}", "upvotes": 3,
                   "authors": [{"name": "Ada Author", "hidden": False}], "publishedAt": "2024-03-01T00:00:00.000Z"}},
        {"paper": {"id": "2403.00003", "title": "Only in the Data", "summary": "Three.", "authors": []}},
    ],
}), quote=True)  # fmt: skip
HUGGING_FACE = f"""<!doctype html>
<html class=""><head><meta charset="utf-8"><title>Daily Papers - Hugging Face</title>
<script>window.x = "<article><h3>Nothing</h3></article>";</script></head><body class="flex">
<header><nav><a href="/papers">Daily Papers</a></nav></header>
<main><div class="SVELTE_HYDRATER contents" data-target="DailyPapers" data-props="{_PROPS}">
<section class="container"><h1>Daily Papers</h1><div class="grid">
<article class="relative flex"><a href="/papers/2403.00001" class="shrink-0"><img src="x.png"></a>
<h3 class="mb-1"><a href="/papers/2403.00001" class="line-clamp-3">Papers of the Day</a></h3><p>short</p></article>
<article class="relative flex"><h3><a href="https://huggingface.co/papers/2403.00002">Papers
 of the Night</a></h3><p class="line-clamp-2">Two. {LONG}</p><a href="/papers/2403.00002#community">4</a></article>
<article class="relative flex"><h3><a href="/papers/2403.00004">A Card Alone</a></h3></article>
</div></section></div></main></body></html>
"""

ARXIV_SEARCH = """<!DOCTYPE html>
<html lang="en"><head><title>Search | arXiv e-print repository</title></head><body>
<ol class="breathe-horizontal" start="1">
<li class="arxiv-result"><div class="is-marginless"><p class="list-title is-inline-block">
<a href="https://arxiv.org/abs/2105.00001">arXiv:2105.00001</a><span>&nbsp;[<a href="https://arxiv.org/pdf/2105.00001">pdf</a>]</span></p></div>
<p class="title is-5 mathjax"> A <span class="search-hit mathjax">Search</span> Result with $\\alpha$ </p>
<p class="authors"><span class="has-text-black-bis has-text-weight-semibold">Authors:</span>
<a href="/search/?searchtype=author&amp;query=A">Ada Author</a>, <a href="/search/?x">B. Writer</a></p>
<p class="abstract mathjax"><span class="has-text-black-bis">Abstract</span>:
<span class="abstract-short has-text-grey-dark mathjax" id="2105.00001v1-abstract-short">&hellip;we found <a class="is-size-7">&#9661; More</a></span>
<span class="abstract-full has-text-grey-dark mathjax" style="display: none;">Indeed we found <span class="search-hit mathjax">this</span>. <a class="is-size-7">&#9651; Less</a></span></p>
<p class="is-size-7"><span>Submitted</span> 3 May, 2021; <span>originally announced</span> May 2021. </p>
<p class="comments is-size-7"><span>Journal ref:</span> Made Up 3 (2021)</p></li>
<li class="arxiv-result"><p class="list-title"><a href="https://arxiv.org/abs/2105.00002">arXiv:2105.00002</a></p>
<p class="title is-5 mathjax">Abstracts Hidden</p></li>
</ol></body></html>
"""

ARXIV_LIST = """<!DOCTYPE html><html><body><div id="dlpage"><h1>Computer Vision</h1>
<dl id='articles'><h3>New submissions (showing 2 of 2 entries)</h3>
<dt><a name='item1'>[1]</a> <a href ="/abs/2406.00001" title="Abstract" id="2406.00001"> arXiv:2406.00001 </a>[<a href="/pdf/2406.00001">pdf</a>]</dt>
<dd><div class='meta'><div class='list-title mathjax'><span class='descriptor'>Title:</span> A Listed Paper </div>
<div class='list-authors'><a href="x">Ada Author</a>, <a href="y">B. Writer</a></div>
<div class='list-journal-ref'><span class='descriptor'>Journal-ref:</span> Made Up 4</div>
<p class='mathjax'> Its abstract is shown. </p></div></dd>
<dt><a href ="/abs/2406.00002" title="Abstract">arXiv:2406.00002</a></dt>
<dd><div class='meta'><div class='list-title mathjax'><span class='descriptor'>Title:</span> Replaced</div></div></dd>
</dl></div></body></html>
"""

SINGLE = f"""<!DOCTYPE html><html lang="en"><head><title>[1701.00001] One</title>
<meta name="citation_title" content="One Page of One Paper" /><meta name="citation_author" content="Author, Ada" />
<meta name="citation_author" content="Writer, B." /><meta name="citation_date" content="2017/06/12" />
<meta name="citation_pdf_url" content="https://arxiv.org/pdf/1701.00001" /><meta name="citation_arxiv_id" content="1701.00001" />
<meta name="citation_doi" content="10.1000/one" /><meta name="citation_journal_title" content="Made Up" />
<meta property="og:url" content="https://arxiv.org/abs/1701.00001v7" />
</head><body><h1 class="title mathjax"><span class="descriptor">Title:</span>One Page of One Paper</h1>
<blockquote class="abstract mathjax"><span class="descriptor">Abstract:</span>{LONG}</blockquote></body></html>
"""

PUBMED_PAGE = """<!DOCTYPE html>
<html lang="en"><body><section class="search-results-list"><div class="results-article">
<article class="article-overview"><header class="heading"><div class="article-citation">
<button class="journal-actions-trigger trigger" title="Made Journal of Pages">Made J Pages</button><span class="cit">2020 Dec 11;1(1):1.</span>
<span class="citation-doi">doi: 10.1000/page.1.</span></div>
<h1 class="heading-title"><a href="/10000021/"> A page of PubMed. </a></h1>
<div class="authors-list"><span class="authors-list-item"><a class="full-name" href="/?term=A">Ada Author</a><sup>1</sup></span></div>
<ul class="identifiers"><li><strong class="current-id" title="PubMed ID">10000021</strong></li></ul></header>
<div class="abstract" id="abstract"><h2 class="title"> Abstract </h2><div class="abstract-content selected" id="eng-abstract">
<p><strong class="sub-title"> Background: </strong> It was shown.</p><p><strong class="sub-title">Results:</strong> CO<sub>2</sub>.</p></div></div></article>
</div><article class="full-docsum"><a class="docsum-title" href="/10000022/">Shown in short</a>
<span class="docsum-pmid">10000022</span><div class="full-view-snippet">... a piece of it ...</div></article></section></body></html>
"""

OTHER_PAGE = f"""<html><head><title>My papers</title><style>p {{ color: red }}</style></head><body>
<nav><a href="/">Home</a></nav>
<div><h2><a href="https://doi.org/10.1000/other.1">A Paper on Some Page</a></h2><p>A. Author, B. Writer</p><p>May 2020</p>
<p>First. <em>We</em> say<br>{LONG}</p></div>
<div><h2>A Paper Without a Link</h2><div>Second. {LONG}</div></div>
<div><h2>A Paper Without an Abstract</h2></div>
<div><h2>The Last Paper</h2><div>Third. {LONG}</div></div>
<footer>{LONG}</footer><script>var x = "{LONG}"</script></body></html>
"""

SAMPLES = [
    Sample("atom", "query.xml", ATOM.encode(), ("A Made-Up Transformer for $x_i < y$", "Old Identifiers Stay"), (
        ("record 2 (line 26)", "not well-formed"), ("record 3 (line 31)", "end tag is missing"),
        ("record 5 (line 42)", "no abstract"), ("record 6 (line 47)", "incorrect id format"),
        ("record 7 (line 52)", "file ends"),
    )),
    Sample("atom", "utf-16.xml", ATOM[: ATOM.index("<entry>", 1200)].replace("UTF-8", "UTF-16").encode("utf-16"),
           ("A Made-Up Transformer for $x_i < y$",)),
    Sample("arxiv-oai", "oai.xml", OAI.encode(),
           ("Made-up calculation of diphoton production", "A raw record", "A record in Dublin Core"),
           (("record 2 (line 19)", "deleted"),)),
    Sample("pubmed", "pubmed.xml", PUBMED.encode(), ("Effects of H2O on E. coli at 103 Pa.", "A chapter of a book"), (
        ("record 2 (line 18)", "no abstract"), ("record 3 (line 21)", "mismatched tag"),
        ("record 4 (line 23)", "without a start"),
    )),
    Sample("endnote", "endnote.xml", ENDNOTE.encode(), ("The role of CO2 in nothing", "Plain"),
           (("record 2 (line 1)", "mismatched tag"),)),
    Sample("jats", "article.xml", JATS.encode(), ("Archived in vitro articles",)),
    Sample("html", "huggingface.html", HUGGING_FACE.encode(),
           ("Papers of the Day", "Papers of the Night", "Only in the Data"), (("record 3 (line 11)", "no abstract"),)),
    Sample("html", "arxiv-search.html", ARXIV_SEARCH.encode(), ("A Search Result with $α$",),
           (("record 2 (line 14)", "no abstract"),)),
    Sample("html", "arxiv-list.html", ARXIV_LIST.encode(), ("A Listed Paper",), (("record 2 (line 8)", "no abstract"),)),
    Sample("html", "arxiv-abs.html", SINGLE.encode(), ("One Page of One Paper",)),
    Sample("html", "pubmed.html", PUBMED_PAGE.encode(), ("A page of PubMed.",), (("record 2 (line 11)", "no abstract"),)),
    Sample("html", "other.html", OTHER_PAGE.encode(),
           ("A Paper on Some Page", "A Paper Without a Link", "The Last Paper"), (("line 7", "no abstract"),)),
]  # fmt: skip


def read(form: str, content: bytes) -> list[Raw | Rejected]:
    return list(FORMS[form].read(Content("made", io.BytesIO(content))))


def record(item: Raw | Rejected) -> Record:
    assert isinstance(item, Raw), item
    found = to_record(item)
    assert isinstance(found, Record), found
    return found


def fields(item: Raw | Rejected) -> dict[str, Any]:
    """What a record says of the paper, without title, abstract and what is not known."""
    kept = record(item)
    names = ("authors", "year", "venue", "doi", "arxiv_id", "pmid", "url", "own_id")
    return {name: getattr(kept, name) for name in names if getattr(kept, name)}


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda each: each.name)
def test_each_sample_fits_its_format_alone_and_gives_all_its_good_records(sample: Sample) -> None:
    assert [name for name, form in FORMS.items() if form.fits(Content("x", io.BytesIO(sample.content)))] == [
        sample.form
    ]
    found = [to_record(item) if isinstance(item, Raw) else item for item in read(sample.form, sample.content)]
    assert tuple(item.title for item in found if isinstance(item, Record)) == sample.titles
    refused = [item for item in found if isinstance(item, Rejected)]
    assert [item.where for item in refused] == [where for where, _ in sample.bad]
    assert all(word in item.reason for item, (_, word) in zip(refused, sample.bad, strict=True)), refused


def test_an_atom_entry_has_all_the_fields_of_the_arxiv_api() -> None:
    found = read("atom", ATOM.encode())
    assert fields(found[0]) == {
        "authors": ("Ada Author", "Bö Writer"), "year": 2021, "venue": "J. Made Up 1 (2022)", "doi": "10.1000/made.1",
        "arxiv_id": "2101.00001", "url": "http://arxiv.org/abs/2101.00001v2",
        "own_id": "http://arxiv.org/abs/2101.00001v2",
    }  # fmt: skip
    assert record(found[0]).abstract == "We made up a café & a model. It reaches 5% on nothing."
    assert record(found[3]).arxiv_id == "hep-th/9901001"


def test_each_form_of_an_oai_record_has_its_fields() -> None:
    first, _, raw, core = read("arxiv-oai", OAI.encode())
    assert fields(first) == {
        "authors": ("A. B. Author Jr", "Béa Writer"), "year": 2007, "venue": "Made.Rev.D76:013009,2007",
        "doi": "10.1000/maded.76", "arxiv_id": "0704.0001", "url": "https://arxiv.org/abs/0704.0001",
        "own_id": "oai:arXiv.org:0704.0001",
    }  # fmt: skip
    assert (record(raw).authors, record(raw).year) == (("A. Author", "B. Writer", "C. Maker"), 2007)
    assert record(core).abstract == "Dublin Core says little." and record(core).authors == ("A. Author", "B. Writer")
    assert (record(core).doi, record(core).arxiv_id, record(core).year) == ("10.1000/dc.4", "0704.0004", 2007)


def test_a_pubmed_record_has_labelled_parts_and_its_own_doi() -> None:
    found = read("pubmed", PUBMED.encode())
    assert fields(found[0]) == {
        "authors": ("Ada B Author", "Made-Up Study Group"), "year": 2019, "venue": "Journal of Made-Up Medicine",
        "doi": "10.1000/made.med.1", "pmid": "10000001", "url": "https://pubmed.ncbi.nlm.nih.gov/10000001/",
    }  # fmt: skip
    assert record(found[0]).abstract == "BACKGROUND: Nobody knew <this>. RESULTS: Ca2+ rose."
    assert fields(found[4])["venue"] == "Made-Up Reviews" and fields(found[4])["authors"] == ("W Writer",)
    assert isinstance(found[1], Raw) and "1998" in found[1].fields["year"]


def test_endnote_and_jats_records_have_their_fields() -> None:
    assert fields(read("endnote", ENDNOTE.encode())[0]) == {
        "authors": ("Ada Author", "B. Writer Jr."), "year": 2011, "venue": "Made Journal", "doi": "10.1000/en.7",
        "pmid": "10000009", "url": "https://example.invalid/7", "own_id": "7",
    }  # fmt: skip
    [article] = read("jats", JATS.encode())
    assert fields(article) == {
        "authors": ("Ada Author",), "year": 2021, "venue": "Annals of Tests", "doi": "10.1000/jats.1",
        "pmid": "10000011",
    }  # fmt: skip
    assert record(article).abstract == "Aims To archive x. Ends Done well."


def feed(*entries: str, head: str = "", encoding: str = "utf-8") -> bytes:
    body = "\n".join(f"<entry>{each}</entry>" for each in entries)
    return f'{head}<feed xmlns="http://www.w3.org/2005/Atom">\n{body}\n</feed>'.encode(encoding)


def good(title: str) -> str:
    return f"<id>x</id><title>{title}</title><summary>An abstract of {title}.</summary>"


LAUGHS = '<!DOCTYPE feed [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefghi", "bcdefghij", strict=True)
) + "]>"  # fmt: skip
HOSTILE = {
    "billion laughs": lambda: feed(good("One"), good("&j;"), good("Two"), head=LAUGHS),
    "quadratic blow-up": lambda: feed(good("One"), good("&x;" * 9_999), good("Two"), head=f'<!DOCTYPE feed [<!ENTITY x "{"x" * 50_000}">]>'),
    "external file": lambda: feed(good("One"), good("&x;"), good("Two"), head='<!DOCTYPE feed [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
    "external address": lambda: feed(good("One"), good("&x;"), good("Two"), head='<!DOCTYPE feed [<!ENTITY % p SYSTEM "http://203.0.113.1/x.dtd"> %p;]>'),
    "depth": lambda: feed(good("One"), "<a>" * 100_000, good("Two")),
    "NUL": lambda: feed(good("One"), good("a\0b"), good("Two")),
    "unclosed tags": lambda: feed(good("One"), "<title>never closed", good("Two")),
    "a DTD inside": lambda: feed(good("One"), LAUGHS + good("&j;"), good("Two")),
    "many tags": lambda: feed(good("One"), "<a/>" * 600_000, good("Two")),
    "many attributes": lambda: feed(good("One"), "<a" + "".join(f" a{i}=''" for i in range(600_000)) + "/>", good("Two")),
    "long text": lambda: feed(good("One"), good("x" * 9_000_000), good("Two")),
    "long attribute": lambda: feed(good("One"), f'<a b="{"x" * 9_000_000}"/>', good("Two")),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_record_is_named_and_costs_no_neighbour(name: str) -> None:
    found = read("atom", HOSTILE[name]())
    assert [record(item).title for item in found if isinstance(item, Raw)] == ["One", "Two"]
    refused = [item for item in found if isinstance(item, Rejected)]
    assert len(refused) == 1 and refused[0].damaged and refused[0].where == "record 2 (line 3)"
    assert len(refused[0].text) <= 20_000 and "root:" not in refused[0].text


def test_names_of_characters_that_html_has_are_read_and_others_refused() -> None:
    found = read("atom", feed(good("caf&eacute; &AMP; &LT;b&GT;"), good("&unheard;")))
    assert record(found[0]).title == "café & <b>"
    assert isinstance(found[1], Rejected) and "undefined entity" in found[1].reason


@pytest.mark.parametrize(("declared", "written"), [
    ("iso-8859-1", "utf-8"), ("utf-8", "cp1252"), ("iso-8859-2", "iso-8859-2"), ("gb18030", "gb18030"),
    ("bz2", "utf-8"), ("no-such", "cp1252"), ("utf-16", "utf-8"), ("utf-8", "utf-16"), ("utf-8", "utf-16-le"),
])  # fmt: skip
def test_a_wrong_declaration_of_the_encoding_does_no_harm(declared: str, written: str) -> None:
    head = f'<?xml version="1.0" encoding="{declared}"?>'
    found = read("atom", feed(good("naïve é" if written != "iso-8859-2" else "šé"), head=head, encoding=written))
    assert [record(item).title for item in found] == ["naïve é" if written != "iso-8859-2" else "šé"]


def test_undeclared_prefixes_are_no_fault() -> None:
    [item] = read("atom", feed(good("One") + "<arxiv:doi>10.1000/x</arxiv:doi>"))
    assert record(item).doi == "10.1000/x"


@pytest.mark.parametrize("at", range(0, len(OAI), 97))
def test_a_file_cut_anywhere_keeps_what_stands_before_the_cut(at: int) -> None:
    whole, cut = read("arxiv-oai", OAI.encode()), read("arxiv-oai", OAI.encode()[:at])
    kept = OAI[:at].count("</record>")
    assert cut[:kept] == whole[:kept] and len(cut) <= max(1, OAI[:at].count("<record>"))
    assert all(isinstance(item, Rejected) for item in cut[kept:])


class Dripping(io.RawIOBase):
    """A stream that gives little at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        self._inner, self._size = io.BytesIO(content), size

    def readable(self) -> bool:
        return True

    def peek(self, n: int = 0) -> bytes:
        at = self._inner.tell()
        data = self._inner.read(n)
        self._inner.seek(at)
        return data

    def read(self, n: int = -1) -> bytes:
        return self._inner.read(min(n, self._size))


@pytest.mark.parametrize("size", [1, 7, 64, 1_000])
@pytest.mark.parametrize(
    ("form", "text"), [("atom", ATOM), ("pubmed", PUBMED), ("arxiv-oai", OAI), ("endnote", ENDNOTE)]
)
def test_the_size_of_what_is_read_at_a_time_changes_nothing(form: str, text: str, size: int) -> None:
    stream: Any = Dripping(text.encode(), size)
    found = list(FORMS[form].read(Content("made", stream)))
    whole = read(form, text.encode())
    assert [item.where for item in found] == [item.where for item in whole]
    assert [item for item in found if isinstance(item, Raw)] == [item for item in whole if isinstance(item, Raw)]


def test_a_file_without_records_says_so() -> None:
    [item] = read("atom", b"<feed xmlns='http://www.w3.org/2005/Atom'></feed>")
    assert isinstance(item, Rejected) and "no element <entry>" in item.reason


# --- HTML -------------------------------------------------------------------------------------------------------------


def test_pages_of_hugging_face_have_authors_year_and_link_from_their_data() -> None:
    found = read("html", HUGGING_FACE.encode())
    assert fields(found[0]) == {
        "authors": ("Ada Author",), "year": 2024, "arxiv_id": "2403.00001",
        "url": "https://huggingface.co/papers/2403.00001",
    }  # fmt: skip
    assert record(found[1]).arxiv_id == "2403.00002" and record(found[1]).abstract.startswith("Two.")


def test_pages_of_arxiv_have_all_that_they_show() -> None:
    [first, _] = read("html", ARXIV_SEARCH.encode())
    assert fields(first) == {
        "authors": ("Ada Author", "B. Writer"), "year": 2021, "venue": "Made Up 3 (2021)", "arxiv_id": "2105.00001",
        "url": "https://arxiv.org/abs/2105.00001",
    }  # fmt: skip
    assert record(first).abstract == "Indeed we found this."
    [listed, _] = read("html", ARXIV_LIST.encode())
    assert fields(listed) == {
        "authors": ("Ada Author", "B. Writer"), "venue": "Made Up 4", "arxiv_id": "2406.00001",
        "url": "https://arxiv.org/abs/2406.00001",
    }  # fmt: skip
    [single] = read("html", SINGLE.encode())
    assert fields(single) == {
        "authors": ("Ada Author", "B. Writer"), "year": 2017, "venue": "Made Up", "doi": "10.1000/one",
        "arxiv_id": "1701.00001", "url": "https://arxiv.org/abs/1701.00001v7",
    }  # fmt: skip
    assert record(single).abstract == LONG.strip()


def test_a_page_of_pubmed_has_the_whole_abstract_and_the_ids() -> None:
    [first, _] = read("html", PUBMED_PAGE.encode())
    assert record(first).abstract == "Background: It was shown. Results: CO2."
    assert fields(first) == {
        "authors": ("Ada Author",), "year": 2020, "venue": "Made Journal of Pages", "doi": "10.1000/page.1",
        "pmid": "10000021", "url": "https://pubmed.ncbi.nlm.nih.gov/10000021/",
    }  # fmt: skip


def test_of_any_other_page_each_title_with_an_abstract_is_read_once_with_its_link() -> None:
    found = [item for item in read("html", OTHER_PAGE.encode()) if isinstance(item, Raw)]
    assert [record(item).doi for item in found] == ["10.1000/other.1", None, None]
    assert record(found[0]).abstract == f"First. We say {LONG.strip()}"
    pages = [(f"Title {i}", f"{i} {LONG}") for i in range(50)]
    body = "".join(f"<div><span>{title}</span></div><section>{text}</section>" for title, text in pages)
    found = read("html", f"<html><body>{body}</body></html>".encode())
    assert [(record(item).title, record(item).abstract) for item in found] == [(t, a.strip()) for t, a in pages]


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16", "iso-8859-2"])
def test_a_page_is_read_in_its_encoding(encoding: str) -> None:
    declared = "utf-8" if encoding == "utf-16" else encoding
    title = "š é" if encoding == "iso-8859-2" else "naïve é"
    page = f'<html><head><meta charset="{declared}"></head><body><h2>{title}</h2><p>{LONG}</p></body></html>'
    assert [record(item).title for item in read("html", page.encode(encoding))] == [title]


@pytest.mark.parametrize("page", [
    "", "<html>", "<html></html>", "<html><script>" + "</script " * 100_000, "<html><script>", "<html><!--", "<html><p>" + "<script>" * 5_000, "<html>\0\0<p>x",
    "<html>" + "<!-- " * 5_000, "<html><div data-props='{\"summary\":" + "[" * 100_000 + "'>",
])  # fmt: skip
def test_empty_and_broken_pages_give_no_record_and_no_error(page: str) -> None:
    assert not [item for item in read("html", page.encode()) if isinstance(item, Raw)]


def test_a_page_nested_too_deep_says_so_and_keeps_what_stands_before() -> None:
    page = f"<html><body><h2>One</h2><p>{LONG}</p>{'<div>' * 100_000}<h2>Two</h2><p>{LONG}</p></body></html>"
    first, *_, last = read("html", page.encode())
    assert record(first).title == "One"
    assert isinstance(last, Rejected) and "nested too deep" in last.reason


@pytest.mark.parametrize("page", [
    "<html>" + "x" * (web.FILE_BYTES + 1), "<html>" + "<b>" * 1_100_000, "<html>" + "x " * 9_000_000,
], ids=["bytes", "tags", "characters"])  # fmt: skip
def test_a_page_beyond_the_limits_is_refused_with_the_next_step(page: str) -> None:
    with pytest.raises(CorpusError, match="save its text instead"):
        read("html", page.encode())


# --- Not these formats ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    f"A Title\n{LONG}\nAnother Title\n{LONG}\n", '{"title": "x", "abstract": "y"}\n', "title,abstract\nx,y\n",
    f"On <html> and <feed>\n{LONG}", "<feed> is a tag\n", '<?xml version="1.0"?><note><entry>x</entry></note>',
    f"@everyone likes this\n{LONG}", f"PMID and TY - what they mean\n{LONG}", "%0 of all\n%T is a tag", "PT J\n",
    f"FN of the test\n{LONG}", f"TY  - JOUR\n{LONG}", "", "\n", "x@article{y", "<!-- html -->",
])  # fmt: skip
def test_other_text_fits_none_of_these_formats(text: str) -> None:
    assert [name for name, form in FORMS.items() if form.fits(Content("x", io.BytesIO(text.encode())))] == []


# --- Memory -----------------------------------------------------------------------------------------------------------

_PEAK = """
import io, resource, sys
from assistant.papers import Raw
from assistant.sources import bibtex, markup, tagged, web
from assistant.sources.content import Content
class Made(io.RawIOBase):
    def __init__(self, head, piece, times, tail):
        self.parts = iter([head, *(piece for _ in range(times)), tail])
        self.rest = b""
    def readable(self):
        return True
    def readinto(self, buffer):
        while not self.rest:
            try: self.rest = next(self.parts)
            except StopIteration: return 0
        n = min(len(buffer), len(self.rest))
        buffer[:n], self.rest = self.rest[:n], self.rest[n:]
        return n
form, head, piece, repeat, times, tail = eval(sys.stdin.read())
forms = {**markup.FORMS, **web.FORMS, **tagged.FORMS, **bibtex.FORMS}
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
raws = bad = 0
try:
    for item in forms[form].read(Content("made", Made(head, piece * repeat, times, tail))):
        raws, bad = raws + isinstance(item, Raw), bad + (not isinstance(item, Raw))
except Exception as error:
    print(type(error).__name__, error)
print(raws, bad, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


def peak(form: str, head: bytes, piece: bytes, repeat: int, times: int, tail: bytes) -> Iterator[int]:
    """Read a made file in a process of its own: (records, refusals, megabytes beyond the start)."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK],
        input=repr((form, head, piece, repeat, times, tail)), capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    return (int(each) for each in done.stdout.splitlines()[-1].split())


_ENTRY = feed(good("One")).split(b"\n")[1]


@pytest.mark.parametrize(("piece", "tail"), [
    (b"x" * 1_000, b"</title></entry>"), (b"<b>", b""), (b"&j;", b"</entry>"), (b"<entry>", b""), (b"\0", b"</entry>"),
    (b"<!--", b""), (b"</entry>", b""),
], ids=["text", "tags", "entities", "starts", "NUL", "comments", "ends"])  # fmt: skip
def test_memory_stays_bounded_whatever_a_record_of_100_mb_holds(piece: bytes, tail: bytes) -> None:
    repeat = 1_000_000 // len(piece)
    times = 100 if len(piece) not in {7, 8} else 2
    records, refused, megabytes = peak(
        "atom", b"<feed>" + _ENTRY + b"<entry><title>", piece, repeat, times, tail + _ENTRY
    )
    assert records == 2 and refused >= 1 and megabytes < 150


def test_memory_does_not_grow_with_the_number_of_records() -> None:
    records, refused, megabytes = peak("atom", b"<feed>", _ENTRY, 1_000, 40, b"</feed>")
    assert (records, refused) == (40_000, 0) and megabytes < 30


@pytest.mark.parametrize("piece", [b"<b>", b"<a b=c>", b"<a b c d e f g h i j k l m n o p>", b"<p>x</p>\n", b"word "])
def test_memory_of_the_worst_page_stays_bounded(piece: bytes) -> None:
    _, _, megabytes = peak(
        "html", b"<html><body>", piece, 990_000 // piece.count(b"<") // 2 if b"<" in piece else 3_200_000, 1, b""
    )
    assert megabytes < 400
