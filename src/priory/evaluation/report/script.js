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
