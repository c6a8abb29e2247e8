s=open('test_base.c').read()
s=s.replace('@@EMFILE@@',open('t_emfile.c').read()).replace('@@TABLES@@',open('t_tables.c').read()).replace('@@NEW@@\n',open('t_new.c').read())
open('sendfd_test.c','w').write(s)
