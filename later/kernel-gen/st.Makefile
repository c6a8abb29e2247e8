# SPDX-License-Identifier: GPL-2.0-only
CFLAGS += -g -O2 -Wall $(KHDR_INCLUDES) -pthread

TEST_GEN_PROGS := sendfd_test

include ../lib.mk
