"""The look of a page, and its few lines of script: it reads as well without them."""

STYLE = """
:root { color-scheme: light dark; --bg: #fafaf8; --card: #fff; --ink: #1c1e21; --soft: #5d626a;
  --line: #e3e4e6; --accent: #2a5db0; --best: #e8f0fc; --warn: #8a5300; --warnbg: #fff4df;
  --good: #1d7a46; --bad: #b3362b; }
@media (prefers-color-scheme: dark) { :root { --bg: #15171a; --card: #1e2125; --ink: #e9eaec;
  --soft: #a6acb4; --line: #33373d; --accent: #8db4f5; --best: #22314a; --warn: #f0c27a;
  --warnbg: #35291380; --good: #7fd0a0; --bad: #f09a90; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--bg); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 2rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .7rem; }
h2 small { display: block; font-size: .875rem; font-weight: 400; color: var(--soft); }
h2::first-letter { text-transform: uppercase; }
h3 { font-size: 1rem; margin: 1.4rem 0 .6rem; }
p { margin: .3rem 0; }
.sub, footer { color: var(--soft); font-size: .875rem; }
footer { margin-top: 3rem; } footer a { color: var(--accent); }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.4rem 0 1rem; padding: 0;
  list-style: none; }
.tiles li { flex: 1 1 13rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; padding: .8rem 1rem; }
.tiles b { display: block; font-size: 1.7rem; line-height: 1.25; font-weight: 650;
  font-variant-numeric: tabular-nums; }
.tiles b small { font-size: .95rem; font-weight: 400; color: var(--soft); }
.tiles span { display: block; font-size: .85rem; color: var(--soft); }
.warnings { background: var(--warnbg); border-radius: 10px; margin: 1rem 0; padding: .7rem 1rem;
  list-style: none; font-size: .9rem; }
.warnings li + li { margin-top: .3rem; }
.warning { display: block; color: var(--warn); font-size: .85rem; margin-top: .2rem; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--accent); font-size: .9rem; }
details > :not(summary) { margin-top: .6rem; }
dl { margin: .6rem 0 0; font-size: .9rem; } dt { font-weight: 600; }
dd { margin: 0 0 .6rem; color: var(--soft); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; margin-bottom: .6rem; }
table { border-collapse: collapse; width: 100%; font-size: .95rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .6rem .8rem; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; white-space: nowrap; font-weight: 400; }
thead th { font-weight: 600; font-size: .8125rem; color: var(--soft); vertical-align: bottom; }
tbody:last-child tr:last-child > *, tfoot tr:last-child > * { border-bottom: 0; }
th:first-child { text-align: left; white-space: normal; min-width: 8rem; }
thead th button { all: unset; cursor: pointer; }
thead th button:hover, thead th[aria-sort] button { color: var(--accent); }
thead th[aria-sort] button::after { content: " \\25b2"; }
thead th[aria-sort=descending] button::after { content: " \\25bc"; }
thead th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.records th:first-child b { font-weight: 600; } td.value { font-weight: 600; }
.records th:first-child { width: 60%; min-width: 13rem; }
.note { display: block; color: var(--soft); font-size: .85rem; max-width: 38rem; }
td small { display: block; color: var(--soft); font-size: .85rem; font-weight: 400; }
.unit, td.soft, tfoot * { color: var(--soft); font-weight: 400; }
td.best { background: var(--best); color: var(--accent); font-weight: 700; }
.better { color: var(--good); font-weight: 600; } .worse { color: var(--bad); font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
  gap: 1rem; margin: 1rem 0; align-items: start; }
.cards.many { grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: 10px;
  padding: .7rem; }
figcaption { color: #1c1e21; font-weight: 600; padding: 0 .2rem .5rem; }
figure img { width: 100%; height: auto; display: block; }
@media screen and (max-width: 54rem) {
  main { padding: 1.2rem .8rem 2rem; } th, td { padding: .5rem .6rem; }
  .records, .records tbody { display: block; } .records thead { display: none; }
  .records tr { display: grid; grid-template-columns: 1fr auto; gap: 0 .8rem;
    padding: .6rem .7rem; border-bottom: 1px solid var(--line); }
  .records tbody tr:last-child { border-bottom: 0; }
  .records th, .records td { border: 0; padding: 0; }
  .records th:first-child { width: auto; min-width: 0; grid-column: 1 / -1; }
  .records td { grid-column: 1 / -1; display: flex; justify-content: space-between; gap: .8rem;
    font-size: .9rem; white-space: normal; padding-top: .15rem; }
  .records td.empty { display: none; }
  .records td > span { text-align: right; }
  .records td::before { content: attr(data-title); white-space: nowrap; color: var(--soft);
    font-weight: 400; }
  .compare th:first-child { position: sticky; left: 0; background: var(--card);
    max-width: 9rem; min-width: 6rem; } }
@media print {
  :root { color-scheme: light; --bg: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #ccc;
    --accent: #1d4a94; --best: #eef3fb; --warn: #6b4000; --warnbg: #fff; --good: #155c35;
    --bad: #8c241b; }
  body { font-size: 11pt; background: #fff; } main { max-width: none; padding: 0; }
  tr, figure, .tiles li, .warnings li, h2, h3, summary { break-inside: avoid; }
  h2, h3, summary { break-after: avoid; }
  figure img { max-height: 22cm; object-fit: contain; object-position: left; }
  .scroll { overflow: visible; border-radius: 0; } .compare { font-size: .7rem; }
  .compare th, .compare td { padding: .3rem .35rem; }
  .compare thead th { white-space: normal; } .compare th:first-child { min-width: 4rem; }
  .records { font-size: .8rem; } .records th:first-child { min-width: 9rem; }
  .records th, .records td { padding: .35rem .4rem; }
  .cards { grid-template-columns: repeat(2, 1fr); gap: .5rem; }
  .cards.many { grid-template-columns: repeat(3, 1fr); }
  .warnings { border: 1px solid var(--line); } footer a { display: none; }
  details::details-content { content-visibility: visible; display: block; block-size: auto; }
  summary { color: inherit; list-style: none; } }
"""

SCRIPT = """
(function () {
  var all = function (where, what) { return Array.from(where.querySelectorAll(what)); };
  all(document, 'table.sortable').forEach(function (table) {
    var heads = all(table, 'thead th');
    heads.forEach(function (head, column) {
      var button = document.createElement('button');
      button.type = 'button';
      button.title = 'sort by this column';
      while (head.firstChild) { button.appendChild(head.firstChild); }
      head.appendChild(button);
      button.addEventListener('click', function () {
        var first = head.getAttribute('data-first') || 'ascending';
        var other = first === 'ascending' ? 'descending' : 'ascending';
        var order = head.getAttribute('aria-sort') === first ? other : first;
        heads.forEach(function (h) { h.removeAttribute('aria-sort'); });
        head.setAttribute('aria-sort', order);
        var body = table.tBodies[0];
        var key = function (row) { return row.cells[column].getAttribute('data-value'); };
        all(body, 'tr').sort(function (a, b) {
          var x = key(a), y = key(b);
          if (x === null || y === null) { return (x === null) - (y === null); }
          var by = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
          return order === 'ascending' ? by : -by;
        }).forEach(function (row) { body.appendChild(row); });
      });
    });
  });
  all(document, 'a.numbers').forEach(function (link) {
    var text = document.querySelector('script[type="application/json"]').textContent;
    link.href = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
    link.hidden = false;
  });
  var opened = [];
  window.addEventListener('beforeprint', function () {
    opened = all(document, 'details:not([open])');
    opened.forEach(function (d) { d.open = true; });
  });
  window.addEventListener('afterprint', function () {
    opened.forEach(function (d) { d.open = false; });
  });
})();
"""
