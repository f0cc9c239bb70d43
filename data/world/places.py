"""Countries, cities and dishes.

A cell holds `-` where no single answer is right: Canada has two main languages, Russia and Turkey
lie on two continents, Bulgaria has only just changed its money.
"""

from data.world.table import table

COUNTRIES = table("""
country | capital | continent | language | currency | people
France | Paris | Europe | French | euro | French
Spain | Madrid | Europe | Spanish | euro | Spanish
Italy | Rome | Europe | Italian | euro | Italian
Germany | Berlin | Europe | German | euro | German
Portugal | Lisbon | Europe | Portuguese | euro | Portuguese
Greece | Athens | Europe | Greek | euro | Greek
Austria | Vienna | Europe | German | euro | Austrian
Ireland | Dublin | Europe | - | euro | Irish
Finland | Helsinki | Europe | Finnish | euro | Finnish
Poland | Warsaw | Europe | Polish | zloty | Polish
Hungary | Budapest | Europe | Hungarian | forint | Hungarian
Romania | Bucharest | Europe | Romanian | leu | Romanian
Bulgaria | Sofia | Europe | Bulgarian | - | Bulgarian
Serbia | Belgrade | Europe | Serbian | dinar | Serbian
Sweden | Stockholm | Europe | Swedish | krona | Swedish
Norway | Oslo | Europe | Norwegian | krone | Norwegian
Denmark | Copenhagen | Europe | Danish | krone | Danish
Iceland | Reykjavik | Europe | Icelandic | krona | Icelandic
Ukraine | Kyiv | Europe | Ukrainian | hryvnia | Ukrainian
Russia | Moscow | - | Russian | rouble | Russian
Turkey | Ankara | - | Turkish | lira | Turkish
Egypt | Cairo | Africa | Arabic | pound | Egyptian
Morocco | Rabat | Africa | Arabic | dirham | Moroccan
Algeria | Algiers | Africa | Arabic | dinar | Algerian
Tunisia | Tunis | Africa | Arabic | dinar | Tunisian
Kenya | Nairobi | Africa | - | shilling | Kenyan
Ghana | Accra | Africa | - | cedi | Ghanaian
Nigeria | Abuja | Africa | - | naira | Nigerian
Tanzania | Dodoma | Africa | Swahili | shilling | Tanzanian
Zambia | Lusaka | Africa | - | kwacha | Zambian
Angola | Luanda | Africa | Portuguese | kwanza | Angolan
Japan | Tokyo | Asia | Japanese | yen | Japanese
China | Beijing | Asia | Chinese | yuan | Chinese
India | New Delhi | Asia | - | rupee | Indian
Vietnam | Hanoi | Asia | Vietnamese | dong | Vietnamese
Thailand | Bangkok | Asia | Thai | baht | Thai
Nepal | Kathmandu | Asia | Nepali | rupee | Nepali
Iran | Tehran | Asia | Persian | rial | Iranian
Iraq | Baghdad | Asia | Arabic | dinar | Iraqi
Jordan | Amman | Asia | Arabic | dinar | Jordanian
Saudi Arabia | Riyadh | Asia | Arabic | riyal | Saudi
South Korea | Seoul | Asia | Korean | won | Korean
Brazil | Brasilia | South America | Portuguese | real | Brazilian
Argentina | Buenos Aires | South America | Spanish | peso | Argentine
Chile | Santiago | South America | Spanish | peso | Chilean
Peru | Lima | South America | Spanish | sol | Peruvian
Colombia | Bogota | South America | Spanish | peso | Colombian
Ecuador | Quito | South America | Spanish | dollar | Ecuadorian
Venezuela | Caracas | South America | Spanish | bolivar | Venezuelan
Mexico | Mexico City | North America | Spanish | peso | Mexican
Canada | Ottawa | North America | - | dollar | Canadian
Cuba | Havana | North America | Spanish | peso | Cuban
Jamaica | Kingston | North America | - | dollar | Jamaican
the United States | Washington | North America | English | dollar | American
the United Kingdom | London | Europe | English | pound | British
Australia | Canberra | Oceania | English | dollar | Australian
New Zealand | Wellington | Oceania | English | dollar | -
""")

# Cities that have one river to name, and sights that have one city to stand in.
RIVERS = table("""
city | river
Paris | Seine
London | Thames
Rome | Tiber
Cairo | Nile
Vienna | Danube
Budapest | Danube
Lisbon | Tagus
Warsaw | Vistula
Baghdad | Tigris
Dublin | Liffey
Berlin | Spree
Seoul | Han
Kyiv | Dnieper
""")

SIGHTS = table("""
sight | city
the Eiffel Tower | Paris
the Louvre | Paris
the Colosseum | Rome
Big Ben | London
Tower Bridge | London
the Brandenburg Gate | Berlin
the Acropolis | Athens
Red Square | Moscow
the Kremlin | Moscow
the Forbidden City | Beijing
the Prado | Madrid
the Statue of Liberty | New York
the Empire State Building | New York
the Golden Gate Bridge | San Francisco
the White House | Washington
Hagia Sophia | Istanbul
the Blue Mosque | Istanbul
the Sagrada Familia | Barcelona
the Burj Khalifa | Dubai
the Hermitage | Saint Petersburg
Table Mountain | Cape Town
the Little Mermaid | Copenhagen
the Chain Bridge | Budapest
the Taj Mahal | Agra
the Alhambra | Granada
the Leaning Tower | Pisa
""")

DISHES = table("""
dish | country
sushi | Japan
ramen | Japan
pizza | Italy
risotto | Italy
lasagne | Italy
paella | Spain
gazpacho | Spain
guacamole | Mexico
mole sauce | Mexico
goulash | Hungary
moussaka | Greece
souvlaki | Greece
borscht | Ukraine
pho | Vietnam
pad thai | Thailand
ceviche | Peru
feijoada | Brazil
kimchi | South Korea
bibimbap | South Korea
ratatouille | France
onion soup | France
schnitzel | Austria
sauerbraten | Germany
bigos | Poland
doner kebab | Turkey
poutine | Canada
biryani | India
jerk chicken | Jamaica
dim sum | China
""")
