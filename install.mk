# What the parts of `make install` have in common. DESTDIR stages; the folders are for distributions.
PREFIX ?= /usr/local
DESTDIR ?=
MANDIR ?= $(PREFIX)/share/man
INSTALL ?= install
# Of what is installed; STRIP= keeps the symbols, for who takes them out himself.
STRIP ?= strip
stripped = $(if $(STRIP),! command -v $(STRIP) >/dev/null || $(STRIP) --strip-unneeded $(1),:)

# Before anything is built: whether what is there already of each place may be written to.
may_install = for place in $(1); do \
	until [ -e "$$place" ]; do place=$$(dirname "$$place"); done; \
	[ -d "$$place" ] && [ -w "$$place" ] || { \
	    echo "cannot install into $$place: it is not yours to write to. Run make install as" \
	        'root, or with PREFIX=$$HOME/.local' >&2; exit 1; }; \
    done
