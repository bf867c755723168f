"""Cues of wording: how abstracts say what is done, why, on which data and with what result; patterns, nothing else.

They were chosen by reading: of 40 abstracts drawn from the sample, which sentences state a task, a method, the data, or
figures, and what tells them from their neighbours.
"""

from __future__ import annotations

import re

_MAKE = r"(?:propos|introduc|present|develop|design|devis|construct|formulat|deriv|creat|build)"
PROPOSES = re.compile(
    rf"""\b(?:we|i|authors?|paper|work|article|study|here|it|which|then|also|method|contributions?)\b
        [^.;]{{0,40}}?\b{_MAKE}(?:e|es|s|ed|ing|t)?\b
    | \b(?:is|are|was|were)\s(?:\w+\s)?(?:proposed|introduced|presented|developed|devised)\b
    | \b(?:our|the)\s(?:proposed|novel)\b | ^This\sis\s(?:an?|the\sfirst)\b
    | \b(?:a|an)\s(?:new|novel)\s(?:class|method|framework|approach|family|model)\b""",
    re.IGNORECASE | re.VERBOSE,
)
DOES = re.compile(
    r"""\b(?:we|(?:the\ )?authors|here|this\ \w*\s?(?:paper|work|survey|study|review|article|thesis|tutorial|report
        |approach|framework|method))\s(?:\w+ly\s|first\s|then\s|also\s|instead\s|thus\s|here\s)?(?!hope|believe|note|evaluate|release|report)\w+
    | \b(?:is|are)\s(?:\w+ly\s)?(?:studied|analy[sz]ed|investigated|examined|reviewed|surveyed|compared|attempted)\b
    | ^(?:The|This|Its|Our)\s(?:[\w-]+\s){0,2}?(?:method|approach|idea|framework|model|network|architecture|algorithm
        |system|core|solution|survey|study|key|strategy|scheme)\b""",
    re.IGNORECASE | re.VERBOSE,
)
NAMED = re.compile(
    r"""^(?:(?:The|A|An|Our|Called|Named|Dubbed)\s)?
    (?: (?P<first>(?=[\w+-]*[A-Z][\w+-]*[A-Z0-9])[\w+-]*[\w+-](?<!s)) (?:\s?\([^)]*\))?
      | (?:[\w'-]+\s){1,7}\((?:[\w+-]*[A-Z][\w+-]*(?<!s))\) )
    (?:,[^,]{1,100},)? \s(?:[a-z-]+\s){0,2}?(?P<verb>is|was|can|does|do|[a-z]+(?<![aiousy'])s)\b""",
    re.VERBOSE,
)
"""A sentence whose subject is a name with several capitals, or has one in brackets; the verb is in the singular."""
ALSO = re.compile(
    r"\b(?:also|further(?:more)?|moreover|additionally|in addition|finally|lastly|second|third)\b", re.IGNORECASE
)
UNIT_CUT = re.compile(
    r"(?:;|, (?:and|but|so|yet))\s(?=(?:this (?:paper|work|study|survey|\w+ study)|here|the authors|we|our)\b)"
)
"""Background and what is done about it may share a sentence."""
PURPOSE = re.compile(
    r"\b(?:for|(?:problem|task)s?\sof|towards?)\s(?P<what>(?!(?:the|which|this|each|any|all|it)\b)[^,;:.()]{8,120}?)"
    r"(?=[,;:.()]|\s(?:that|which|whose|by|using|based|called|with|in which|is|are|and|through|via|where)\b|$)"
)
"""What something is for."""
NEEDS = re.compile(r"\b(?:requires?|needs?|problem|essential|important|crucial|central|challeng\w+|demand\w*)\b")
"""What is named is the task, not what is done about it."""
FAULT = re.compile(
    r"""\b(?:however|unfortunately|yet|but|although|despite|existing|previous\w*|prior|conventional\w*|traditional\w*
    |suffers?|lacks?|earlier|limited|limitations?|challeng\w+|difficult\w*|fails?|ignor(?:e[sd]?|ing)|overlook\w*
    |bottleneck|unclear|remains?|understudied|little|hinders?|usually|commonly|typically|often|so\ far|costly
    |expensive)\b""",
    re.IGNORECASE | re.VERBOSE,
)
AIM = re.compile(
    r"\b(?:aims?|goal|objective|tasks?|tackl\w+|address\w*|seeks?|essential|crucial|important|vital|problems?|consider|"
    r"question|need(?:s|ed)?|require[sd]?|demand\w*|applications?|how|whether)\b|\?$",
    re.IGNORECASE,
)
PRAISE = re.compile(
    r"\b(?:success\w*|remarkabl[ey]|ubiquitous|progress|emerged|powerful|growing|promising|popular\w*|attention from)\b"
    r"|^(?:However|But|Yet|Besides|Moreover), (?:they|it|this|these|such)\b",
    re.IGNORECASE,
)
"""Background that states no problem, or one only together with the sentence before."""
RESULT = re.compile(
    r"\b(?:outperform\w*|surpass\w*|state[- ]of[- ]the[- ]art|sota|superior\w*|experiment(?:s|al|ally)|results|"
    r"achiev\w+|beats?|exceed\w*|accuracy|gains?|reach\w*|obtain\w*|evaluat\w+|ablations?|competitive|improv\w+|tests?)\b",
    re.IGNORECASE,
)
POINTER = re.compile(
    r"https?://|\b(?:code|models?|project page|data(?:set)?)s?\b[^.]{0,60}\b(?:available|released)\b", re.IGNORECASE
)
SET = re.compile(
    r"""\b(?:ImageNet|CIFAR|(?:MS-?)?COCO|ADE20K|Cityscapes|KITTI|NYU|PASCAL|VOC|MNIST|(?:Super)?GLUE|SQuAD|WMT|Kinetics
    |LibriSpeech|VTAB|Criteo|Avazu|MovieLens|WikiText|enwik8|CelebA|FFHQ|LSUN|OGB|ogbn|Cora|ScanNet|nuScenes|Waymo
    |ModelNet|ShapeNet|iNaturalist|PubMed|MIMIC|UCF|LVIS|MPII|Market-?1501|BraTS|JFT|LAION|Flickr|VQA|AudioSet|MTEB
    |MMLU|GSM8K|HumanEval|BEIR|MS\ MARCO|UK\ Biobank|TCGA|Long\ Range\ Arena)"""
    r"(?:[\w-]|\s\d)*",
    re.VERBOSE,
)
"""Sets so well known that their name alone tells."""
SETS = re.compile(
    r"\b(?:(?<!to )(?<!for )(?:data ?sets?|benchmarks?|corpus|corpora|cohorts?|test sets?)|participants|patients)\b"
    r"(?! (?:performance|results|scores?|tools))",
    re.IGNORECASE,
)
COUNTED = re.compile(
    r"""(?<![\w,.])(?:\d[\d,.]*+\s?[KMBkmb]?|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|several|many
        |multiple|various|\w+ions|hundreds\ of|thousands\ of)
    \+?\s(?:of\s)?(?:[\w-]+\s){0,3}?
    (?:data\ ?sets|benchmarks|images|videos|clips|documents|samples|examples|patients|participants|subjects|recordings
        |pairs|hours\ of|records|users|sentences|movies|languages|tasks)\b""",
    re.IGNORECASE | re.VERBOSE,
)
TRIED = re.compile(
    r"^(?:On|Across|Over|Tests?|Tested|Experiments?|Evaluat\w+|Trained)\b"
    r"|\b(?:evaluat\w+|experiments?|tests?|tested|trained|collect\w*|annotat\w+|validat\w+|results?|achiev\w+) "
    r"(?:\w+ ){0,6}?(?:on|across|over|with|from|using|for)\b",
)
ON = re.compile(
    r"\b(?:[Oo]n|[Aa]cross|[Oo]ver)\s(?:the\s)?"
    r"(?:(?:\w+\s)?[\w-]*[A-Z][\w-]*|(?:[\w-]+,?\s){0,4}?(?:data ?sets?|benchmarks?)\b)"
)
"""What something was tried on has a capital, or is called a set."""
MADE = re.compile(
    r"\b(?:new|first|curated|large-scale|introduc\w+|releas\w+|collect\w*|build\w*|construct\w*|is an?)\b[^.;]{0,80}?"
    r"(?:data ?sets?|benchmarks?|corp(?:us|ora))\b",
    re.IGNORECASE,
)
ITEM = re.compile(
    r"\s(?:and\s)?(?:(?:the\s)?[^ A-Z0-9]*+[A-Z0-9][^ ]*+(?:\sand)?(?:\s|$))++"
    r"(?:(?:data|sets?|benchmarks?|for|with)\b.*)?$"
    r"|\s(?:\w+\s){0,3}(?:such as|including|e\.g|i\.e|namely)\b"
)
"""A clause that is one more name of a list, or begins one."""
_NUMBER = r"(?<![\w.,-])[+-]?\d++(?:[.,]\d++)*+(?:\s?[-–]\s?\d++(?:[.,]\d++)*+)?"
FIGURE = re.compile(
    rf"""{_NUMBER}\s?(?:%p?|percent|(?:percentage\s)?points?\b|[x×](?!\d)|-?fold\b|times\b|fps\b|FPS\b|m?s\b|dB\b
        |(?:seconds?|minutes?|hours?|days)\b|GPU|[GTM]?FLOPs|(?:[kKMGTB]|million|billion|thousand)\b|parameters
        |orders?\sof|mAP|mIoU|AP\b|BLEU|top-1)
    | (?<![\w.-])\d+\.\d+(?!\.?\w) | \b(?:m?AP|mIoU|FID|BLEU|F1|AUC|PSNR|p)\s(?:of\s|[=<]\s?)?\d
    | \b(?:twice|half\s(?:the|as)|(?:two|three|four|five|ten)(?:fold|-fold|\stimes)|orders?\sof\smagnitude)\b""",
    re.VERBOSE,
)
"""A number with a unit or a decimal; those inside names do not count."""
