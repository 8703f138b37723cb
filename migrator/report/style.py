# SPDX-License-Identifier: Apache-2.0
"""How a report's page looks: light and dark by the reader's choice, every colour at least 4.5 to its ground; and in print."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --text: #1b1f24; --quiet: #57606a; --line: #8c959f; --box: #f6f8fa; --link: #0550ae;
  --good: #0b5523; --good-ground: #dafbe1; --bad: #8f0a20; --bad-ground: #ffebe9;
  --warn: #6b4200; --warn-ground: #fff3c4; --note: #0a3f7a; --note-ground: #ddf0ff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0d1117; --text: #e6edf3; --quiet: #a5afba; --line: #768390; --box: #161b22; --link: #79c0ff;
    --good: #8ef0a0; --good-ground: #11291b; --bad: #ffb3ab; --bad-ground: #35141a;
    --warn: #f0c75e; --warn-ground: #2d2410; --note: #a5d6ff; --note-ground: #10243a;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1rem; background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; padding-top: .5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
p, ul, dl { margin: .25rem 0 .5rem; }
ul { padding-left: 1.25rem; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0; list-style: none; }
code, pre { font: .875rem/1.45 ui-monospace, monospace; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .125rem 1rem; }
dt, .quiet, footer { color: var(--quiet); }
dd { margin: 0; }
.summary { font-size: 1.1rem; }
.reason, .error { color: var(--bad); }
.badge { display: inline-block; padding: 0 .5em; border: 1px solid currentColor; border-radius: .75em;
  font-size: .8125rem; font-weight: 600; white-space: nowrap; }
.good { color: var(--good); background: var(--good-ground); }
.bad { color: var(--bad); background: var(--bad-ground); }
.warn { color: var(--warn); background: var(--warn-ground); }
.note { color: var(--note); background: var(--note-ground); }
.scroll { overflow-x: auto; max-width: 100%; margin: .25rem 0 .75rem; overflow-wrap: normal; }
.scroll:focus-visible, a:focus-visible, summary:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; color: var(--quiet); padding-bottom: .25rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .5rem; border-bottom: 1px solid var(--line); }
th { background: var(--box); }
td { min-width: 6rem; }
td p, td ul { margin: .125rem 0; }
time, .whole { white-space: nowrap; }
pre { margin: 0; padding: .5rem; background: var(--box); }
ins, del { text-decoration: none; display: inline-block; min-width: 100%; }
ins { color: var(--good); background: var(--good-ground); }
del { color: var(--bad); background: var(--bad-ground); }
summary { cursor: pointer; font-weight: 600; padding: .25rem 0; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem; }
.beside > div { min-width: 0; }
.tree ul { list-style: none; margin: 0; padding-left: 1rem; border-left: 1px solid var(--line); }
.tree { overflow-wrap: anywhere; }
footer { margin-top: 2rem; border-top: 1px solid var(--line); font-size: .875rem; }
@media (max-width: 40rem) {
  dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .25rem; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, caption, tbody, tr, td { display: block; }
  td { border: 0; padding: .125rem 0; min-width: 0; }
  td:empty { display: none; }
  td::before { content: attr(data-label) ": "; color: var(--quiet); }
  tr { border-bottom: 1px solid var(--line); padding: .375rem 0; }
}
@media print {
  :root {
    --ground: #ffffff; --text: #000000; --quiet: #444444; --line: #888888; --box: #f2f2f2; --link: #000000;
    --good: #0b5523; --good-ground: #ffffff; --bad: #8f0a20; --bad-ground: #ffffff;
    --warn: #6b4200; --warn-ground: #ffffff; --note: #0a3f7a; --note-ground: #ffffff;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
  .scroll { overflow: visible; overflow-wrap: anywhere; }
  pre { white-space: pre-wrap; }
  h2, h3, summary, tr { break-inside: avoid; }
  h2, h3, summary { break-after: avoid; }
}
"""
