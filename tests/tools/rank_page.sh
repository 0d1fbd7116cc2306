#!/usr/bin/env bash
# Looks at the page of `qfm rank -o FILE.html` in a browser, by light and by dark: its thumbnails are pictures, its keys choose and
# mark, and the list of the marked is in their order.
#   tests/tools/rank_page.sh PROJECT QFM
set -euo pipefail
root=$1 qfm=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$qfm" rank "$root/tools/demo_photos" --quiet -o "$folder/page.html" 2>/dev/null
cat >>"$folder/page.html" <<'PAGE'
<script>
const key = k => (document.activeElement ?? document.body).dispatchEvent(
    new KeyboardEvent('keydown', {key: k, bubbles: true, cancelable: true}));
['ArrowRight', ' ', 'ArrowRight', 'ArrowRight', ' ', 'ArrowLeft', ' ', ' ', 'ArrowLeft', 'ArrowLeft', ' '].forEach(key);
const wanted = [0, 1, 3].map(i => photos[i].dataset.path + '\n').join('');
const paper = getComputedStyle(document.body).backgroundColor;
document.body.dataset.told = [list() === wanted, document.getElementById('count').textContent, paper,
    photos.length, photos.every(photo => photo.firstChild.naturalWidth > 100)].join(' ');
</script>
PAGE
look() { # scheme: 0 dark, 1 light
  timeout 120 chromium --headless --no-sandbox --disable-gpu --user-data-dir="$folder/profile" \
    --blink-settings=preferredColorScheme="$1" --dump-dom "file://$folder/page.html" 2>/dev/null |
    grep -o 'data-told="[^"]*"' || echo 'the page did not come to its end'
}
expect() { # what it should say, what it says
  [ "$1" = "$2" ] || { printf 'rank page: expected %s, got %s\n' "$1" "$2" >&2 && exit 1; }
}
expect 'data-told="true 3 rgb(255, 255, 255) 8 true"' "$(look 1)"
expect 'data-told="true 3 rgb(22, 24, 26) 8 true"' "$(look 0)"
